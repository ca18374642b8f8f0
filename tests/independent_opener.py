"""Opens encrypted images, written from docs/image-format.md section 11 and RFC 9180.

It imports nothing of the project, on purpose.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDH, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


def open_image(data: bytes, private_pem: bytes) -> bytes:
    """The same image as it would be in plain, but for `requires`: what `independent_reader` reads."""
    lengths = list(struct.unpack_from("<QQQQQQ", data, 16))
    trust, manifest = lengths[0], lengths[1]
    head = data[64 : 64 + trust + manifest]
    signed = json.loads(head[trust:])["signed"]
    assert "encryption" in signed["x-twinslot"]["requires"]
    names = sorted(signed["targets"])
    attachments = [signed["targets"][n] for n in names if signed["targets"][n]["custom"]["kind"] == "attachment"]
    payloads = [signed["targets"][n] for n in names if signed["targets"][n]["custom"]["kind"] == "payload"]
    at = 64 + trust + manifest
    envelope = data[at : at + lengths[2] - sum(each["length"] + 16 for each in attachments)]
    cipher, image_id, content = open_envelope(envelope, private_pem)
    units, at = Units(content, cipher, image_id), at + len(envelope)
    sections: list[list[bytes]] = [[], [], [], []]

    def take(section: int, size: int, kind: int, number: int, index: int = 0) -> bytes:
        nonlocal at
        sections[section].append(units.open(kind, number, index, data[at : at + size + 16]))
        at += size + 16
        return sections[section][-1]

    for number, each in enumerate(attachments):
        take(0, each["length"], 1, number)
    for number, each in enumerate(payloads):
        take(1, 32 * each["custom"]["groups"], 2, number)
    tables = [take(2, 40 * each["custom"]["groups"], 3, number) for number, each in enumerate(payloads)]
    for number, table in enumerate(tables):
        for index, (_, _, length, _) in enumerate(struct.iter_unpack("<B3sI32s", table)):
            take(3, length, 4, number, index)
    assert at == len(data)
    parts = [b"".join(section) for section in sections]
    return data[:32] + struct.pack("<QQQQ", *map(len, parts)) + head + b"".join(parts)


def open_sealed_file(data: bytes, image: bytes, private_pem: bytes) -> bytes:
    """The content of a patch or block list beside an encrypted image (11.4)."""
    magic, version, size, file_id, length = struct.unpack_from("<8sII16sQ", data)
    assert (magic, version, size) == (bytes.fromhex("89 54 57 53 44 0D 0A 1A"), 1, 4096)
    trust, manifest, attachments = struct.unpack_from("<QQQ", image, 16)
    targets: dict[str, Any] = json.loads(image[64 + trust :][:manifest])["signed"]["targets"]
    files = sum(each["length"] + 16 for each in targets.values() if each["custom"]["kind"] == "attachment")
    cipher, _, content = open_envelope(image[64 + trust + manifest :][: attachments - files], private_pem)
    units = Units(content, cipher, file_id)
    chunks = [data[at : at + size + 16] for at in range(40, len(data), size + 16)]
    plain = b"".join(units.open(5, 0, index, chunk) for index, chunk in enumerate(chunks))
    assert len(plain) == length
    return plain


def open_envelope(data: bytes, private_pem: bytes) -> tuple[int, bytes, bytes]:
    """11.1: cipher, id of the image, content key."""
    cipher, zeros, image_id = struct.unpack_from("<B3s16s", data)
    assert (cipher in (1, 2), zeros) == (True, bytes(3))
    records = [data[at : at + 152] for at in range(20, len(data), 152)]
    ids = [record[4:36] for record in records]
    assert ids == sorted(set(ids))
    key: Any = load_pem_private_key(private_pem, None)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (record,) = [each for each in records if each[4:36] == hashlib.sha256(public).digest()]
    kem, zeros, _, enc, wrapped, end = struct.unpack("<H2s32s65s48s3s", record)
    assert (zeros, end) == (bytes(2), bytes(3))
    info, aad = b"twinslot content key 1", bytes([cipher]) + image_id
    return cipher, image_id, hpke_open(kem, key, enc, info, aad, wrapped)


def hpke_open(kem: int, key: Any, enc: bytes, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    """RFC 9180: Decap (4.1), KeySchedule (5.1), Open (5.2), in base mode."""
    if isinstance(key, X25519PrivateKey):
        assert (kem, enc[32:]) == (0x20, bytes(33))
        enc = enc[:32]
        dh, mine = key.exchange(X25519PublicKey.from_public_bytes(enc)), key.public_key().public_bytes_raw()
    else:
        assert kem == 0x10
        dh = key.exchange(ECDH(), EllipticCurvePublicKey.from_encoded_point(SECP256R1(), enc))
        mine = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    suite = b"KEM" + kem.to_bytes(2, "big")
    shared = expand(suite, extract(suite, b"", b"eae_prk", dh), b"shared_secret", enc + mine, 32)
    suite = b"HPKE" + kem.to_bytes(2, "big") + b"\0\1" + b"\0\3"
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    nonce = expand(suite, secret, b"base_nonce", context, 12)
    return ChaCha20Poly1305(expand(suite, secret, b"key", context, 32)).decrypt(nonce, sealed, aad)


def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt.ljust(32, b"\0"), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info)[:length]


def hkdf_expand(prk: bytes, info: bytes) -> bytes:
    """RFC 5869, section 2.3: the first block is enough."""
    return hmac.digest(prk, info + b"\1", "sha256")


class Units:
    """11.2."""

    def __init__(self, content: bytes, cipher: int, file_id: bytes) -> None:
        prk = hmac.digest(file_id, content, "sha256")
        key = hkdf_expand(prk, b"twinslot units 1" + bytes([cipher]))
        self._cipher, self._file_id = (AESGCM(key) if cipher == 1 else ChaCha20Poly1305(key)), file_id

    def open(self, kind: int, number: int, index: int, sealed: bytes) -> bytes:
        place = bytes([kind]) + number.to_bytes(2, "big") + index.to_bytes(4, "big")
        return self._cipher.decrypt(bytes(5) + place, sealed, self._file_id + place)
