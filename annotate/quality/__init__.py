"""What a project's rankings say about its annotators, tasks and sources. Computed by the worker; docs/quality.md explains each number."""
