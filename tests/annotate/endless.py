"""Read files of tens of megabytes whose content is made as it is read, and print what became of each and the memory it took.

Run as a program, since only a process of its own can say what it took.
"""

import io
import os
import resource

import django

MB = 1024**2


class Made(io.RawIOBase):
    """A file of `parts`: (bytes, how often)."""

    def __init__(self, *parts: tuple[bytes, int]) -> None:
        self.parts = parts
        self.size = sum(len(text) * often for text, often in parts)
        self.place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self.place = self.size if whence == os.SEEK_END else place
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int = -1) -> bytes:
        start = self.place
        for text, often in self.parts:
            length = len(text) * often
            if start < length:
                size = min(size, length - start)
                at = start % len(text)
                self.place += size
                return (text * (size // len(text) + 2))[at : at + size]
            start -= length
        return b""


# name of the case: (file name, content)
CASES = {
    "a line of 100 MB": ("a.jsonl", [(b'{"prompt": "a"}\n', 1), (b"ab", 50 * MB), (b'\n{"prompt": "b"}', 1)]),
    "a string of 50 MB": (
        "a.json",
        [(b'[{"prompt": "a"}, {"x": "', 1), (b'\\"salt', 8 * MB), (b'"}, {"prompt": "b"}]', 1)],
    ),
    "brackets": ("a.json", [(b"[", 60 * MB)]),
    "a header of columns": ("a.csv", [(b"a,", 10 * MB), (b"\n1,2\n", 1)]),
    "a row of fields": ("a.csv", [(b"a,b\n", 1), (b"xy,", 5 * MB), (b"\n", 1)]),
    "a quote that never closes": ("a.csv", [(b'a,b\n1,"', 1), (b"x" * 10_000 + b"\n", 2_000)]),
    "small values": ("a.jsonl", [(b'{"prompt": "a", "x": [', 1), (b"{},", 4 * MB), (b"0]}", 1)]),
    "depth": ("a.jsonl", [(b'{"prompt": "a", "x": ', 1), (b"[", 400_000), (b"\n", 1)]),
}


def main() -> None:
    django.setup()
    from annotate.formats.importing.errors import FileError, RowError
    from annotate.formats.importing.mapping import Mapping
    from annotate.formats.importing.reading import open_records
    from annotate.formats.importing.shapes import to_row

    for case, (name, parts) in CASES.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taken, said = 0, []
        try:
            for one in open_records(Made(*parts), name).records:  # type: ignore[arg-type]
                try:
                    if one.problem:
                        raise one.problem
                    to_row(one.value or {}, Mapping())
                    taken += 1
                except RowError as error:
                    said.append(error.reason)
        except FileError as error:
            said.append(str(error))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(case, taken, grown // 1024, said[0] if said else "", sep="|", flush=True)


if __name__ == "__main__":
    main()
