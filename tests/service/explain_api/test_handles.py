"""Handles and explain ids: whoever has the key reads them, nobody else makes one."""

import base64

import pytest

from service.explain_api.handles import Handle, HandleError, Signer, Ticket
from service.explaining.events import Sampling

HANDLE = Handle(b"artifact", b"sixteen bytes ok", 3, 7)
TICKET = Ticket(HANDLE, Sampling(100, 0.7, 2**53 - 1))
SIGNER = Signer(b"a secret of sixteen bytes")


def test_what_was_signed_is_read() -> None:
    text = SIGNER.write_handle(HANDLE)
    assert len(text) == 58
    assert SIGNER.read_handle(text) == HANDLE
    assert Signer(b"a secret of sixteen bytes").read_ticket(SIGNER.write_ticket(TICKET)) == TICKET
    assert SIGNER.read_ticket(SIGNER.write_ticket(Ticket(HANDLE, Sampling()))).sampling == Sampling()


@pytest.mark.parametrize("text", [SIGNER.write_handle(HANDLE), SIGNER.write_ticket(TICKET)])
def test_not_a_bit_may_be_changed(text: str) -> None:
    signed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for bit in range(8 * len(signed)):
        changed = bytearray(signed)
        changed[bit // 8] ^= 1 << bit % 8
        forged = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        with pytest.raises(HandleError):
            SIGNER.read_handle(forged)
        with pytest.raises(HandleError):
            SIGNER.read_ticket(forged)


@pytest.mark.parametrize("text", ["", "x", "é", "a b", "====", SIGNER.write_handle(HANDLE)[:-4], "A" * 58, "\ud800"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(HandleError):
        SIGNER.read_handle(text)


def test_one_is_not_taken_for_the_other_nor_for_another_services() -> None:
    with pytest.raises(HandleError):
        SIGNER.read_ticket(SIGNER.write_handle(HANDLE))
    with pytest.raises(HandleError):
        SIGNER.read_handle(SIGNER.write_ticket(TICKET))
    with pytest.raises(HandleError):
        Signer(b"another one of sixteen").read_handle(SIGNER.write_handle(HANDLE))
    with pytest.raises(ValueError, match="shorter"):
        Signer(b"short")


def test_who_has_the_texts_and_an_idle_seed_make_no_other_explanation() -> None:
    greedy = Ticket(HANDLE, Sampling(seed=1)).canonical()
    assert greedy == Ticket(Handle(HANDLE.artifact, HANDLE.pair, 3, 0), Sampling(seed=2)).canonical()
    assert Ticket(HANDLE, Sampling(None, 0.5, 1)).canonical() != Ticket(HANDLE, Sampling(None, 0.5, 2)).canonical()
