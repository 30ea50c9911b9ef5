"""What Podium sends is believed, and nothing else."""

import base64
import time

import pytest

from annotate.services.delivering import sign
from annotate.services.webhooks import signing_secret
from podium_client import BadSignature, PodiumError, verify

BODY = '{"type": "run.ended", "note": "ü"}'.encode()
UID = "0190f3c2-0000-7000-8000-000000000001"


@pytest.fixture
def secret() -> str:
    return signing_secret("nonce")


def sent(secret: str, moment: float | None = None, **changes: str) -> dict[str, str]:
    """The headers as the server makes them."""
    at = int(time.time() if moment is None else moment)
    return {
        "Webhook-Id": UID,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": sign(secret, UID, at, BODY),
        **changes,
    }


def test_what_the_server_signs_is_believed(secret):
    assert verify(secret, sent(secret), BODY) == UID


def test_one_good_signature_among_others_is_enough(secret):
    headers = sent(secret)
    both = f"v1a,abc v1,ü {headers['Webhook-Signature']}"
    assert verify(secret, {**headers, "Webhook-Signature": both}, BODY) == UID


def test_the_example_of_the_standard_verifies():
    """From the specification of Standard Webhooks, whose clock stood in 2021."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, b'{"test": 2432232314}', tolerance=1e12)


@pytest.mark.parametrize("seconds", [-600, 600])
def test_what_was_sent_long_ago_or_is_to_come_is_refused(secret, seconds):
    with pytest.raises(BadSignature, match="another time"):
        verify(secret, sent(secret, time.time() + seconds), BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Id": "another"},
        {"Webhook-Timestamp": "soon"},
        {"Webhook-Timestamp": "١٦"},
        {"Webhook-Signature": ""},
        {"Webhook-Signature": "v1,"},
        {"Webhook-Signature": "v2," + base64.b64encode(bytes(32)).decode()},
    ],
)
def test_what_was_changed_is_refused(secret, change):
    with pytest.raises(BadSignature):
        verify(secret, sent(secret) | change, BODY)


def test_another_secret_another_body_and_a_missing_header_are_refused(secret):
    with pytest.raises(BadSignature):
        verify(signing_secret("other"), sent(secret), BODY)
    with pytest.raises(BadSignature):
        verify(secret, sent(secret), BODY + b" ")
    with pytest.raises(BadSignature, match="webhook-id"):
        verify(secret, {}, BODY)


def test_what_is_no_secret_is_told_so():
    with pytest.raises(PodiumError, match="whsec_"):
        verify("whsec_not base64!", sent(signing_secret("nonce")), BODY)
