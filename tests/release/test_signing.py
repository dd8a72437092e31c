"""Who signed is known for certain, who must have signed is asked for, and a key is never shown."""

import base64
from itertools import product

import pytest

from ml_workbench.plan.errors import ReleaseError, SettingsError
from ml_workbench.release.signing import (
    MOST_SIGNATURES,
    check_signature,
    new_keys,
    signed,
    signers,
    trusted_from,
)

MANIFEST = b'{"model": "some"}\n'
ANN, BEN = new_keys(), new_keys()
BY_ANN = signed(MANIFEST, ANN.private)


def test_two_pairs_are_never_the_same():
    assert len({key for pair in (ANN, BEN) for key in (pair.public, pair.private)}) == 4


def test_a_signature_names_its_key_and_is_the_same_each_time():
    assert signers(BY_ANN, MANIFEST) == (ANN.public,)
    assert signed(MANIFEST, ANN.private) == BY_ANN


def test_a_second_signature_leaves_the_first_and_the_same_again_changes_nothing():
    both = signed(MANIFEST, BEN.private, beside=BY_ANN)
    assert {*signers(both, MANIFEST)} == {ANN.public, BEN.public}
    assert signed(MANIFEST, BEN.private, beside=both) == both


def test_with_no_trusted_key_anybody_may_have_signed_and_nobody_too():
    assert check_signature(None, MANIFEST) is None
    assert check_signature(BY_ANN, MANIFEST) == ANN.public


def test_while_keys_are_changed_both_are_trusted():
    trusted = trusted_from(f"{BEN.public}, {ANN.public}")
    assert check_signature(BY_ANN, MANIFEST, trusted) == ANN.public
    assert check_signature(signed(MANIFEST, BEN.private), MANIFEST, trusted) == BEN.public


def test_a_release_that_nobody_signed_is_refused_where_a_key_is_trusted():
    with pytest.raises(ReleaseError, match=r"it is not signed, and only what .* signed may be used"):
        check_signature(None, MANIFEST, (ANN.public,))


def test_a_release_that_somebody_else_signed_is_refused():
    with pytest.raises(ReleaseError, match="which is not trusted"):
        check_signature(BY_ANN, MANIFEST, (BEN.public,))


def test_another_manifest_is_not_covered_whoever_is_trusted():
    for trusted in ((), (ANN.public,), (BEN.public,)):
        with pytest.raises(ReleaseError, match="does not fit"):
            check_signature(BY_ANN, MANIFEST + b" ", trusted)


def test_a_signature_that_fits_does_not_excuse_one_that_does_not():
    wrong = signed(b"other bytes", BEN.private)
    with pytest.raises(ReleaseError, match="does not fit"):
        check_signature(BY_ANN + wrong, MANIFEST, (ANN.public,))


def test_the_key_of_another_under_my_signature_does_not_fit():
    _, _, made = BY_ANN.decode().split()
    with pytest.raises(ReleaseError, match="does not fit"):
        signers(f"ed25519 {BEN.public} {made}\n".encode(), MANIFEST)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\n",
        b"\xff\xfe",
        b"ed25519",
        BY_ANN.replace(b"ed25519", b"rsa"),
        BY_ANN[:-10],
        BY_ANN * (MOST_SIGNATURES + 1),
        b"x" * 5000,
    ],
    ids=["empty", "blank", "binary", "one word", "other algorithm", "cut off", "too many", "long"],
)
def test_a_damaged_signature_is_one_readable_line(damaged: bytes):
    with pytest.raises(ReleaseError, match=r"release\.sig is damaged") as told:
        signers(damaged, MANIFEST)
    assert "\n" not in str(told.value)


def test_no_bit_of_a_signature_can_be_turned():
    "Not even those that Base64 does not look at."
    for place, bit in product(range(len(BY_ANN)), range(8)):
        turned = bytearray(BY_ANN)
        turned[place] ^= 1 << bit
        with pytest.raises(ReleaseError):
            check_signature(bytes(turned), MANIFEST, (ANN.public,))


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        base64.b64encode(b"x" * 31).decode(),
        "ä" * 44,
        pytest.param(f"{ANN.public};{BEN.public}", id="two"),
    ],
)
def test_a_trusted_key_that_is_none_is_named_by_its_place(text: str):
    with pytest.raises(SettingsError, match="MLW_TRUSTED_KEYS: key 2 of 2"):
        trusted_from(f"{ANN.public},{text}")


@pytest.mark.parametrize("private", ["", "secret words", base64.b64encode(b"x" * 33).decode()])
def test_a_private_key_that_is_none_is_refused_without_being_shown(private: str):
    with pytest.raises(SettingsError, match="MLW_SIGNING_KEY is not the Base64 of 32 bytes") as told:
        signed(MANIFEST, private)
    assert not private or private not in str(told.value)


def test_the_private_key_is_in_no_representation():
    assert ANN.private not in repr(ANN) and ANN.private not in str(BY_ANN)
