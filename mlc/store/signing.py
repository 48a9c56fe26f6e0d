"""Ed25519 signatures, for archives that travel. The cryptography is that of the package ``cryptography``."""

from pathlib import Path

from mlc.errors import UserError

_LONGEST_KEY = 1 << 16


def sign(content: bytes, key_file: Path) -> bytes:
    """Signs bytes.

    Args:
        content: What is signed.
        key_file: An Ed25519 private key without a password, in PEM: PKCS#8 or OpenSSH.

    Returns:
        The signature, 64 bytes.

    Raises:
        UserError: The file holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = _read(key_file)
    load = serialization.load_ssh_private_key if b"OPENSSH" in pem else serialization.load_pem_private_key
    try:
        key = load(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(
            f"The file {str(key_file)!r} holds no Ed25519 private key without a password: make one with "
            "`openssl genpkey -algorithm ed25519`."
        )
    return key.sign(content)


def signed_by(content: bytes, signature: bytes, key_file: Path) -> bool:
    """Whether a signature of bytes was made with the private key of a public one.

    Args:
        content: What was signed.
        signature: The signature.
        key_file: An Ed25519 public key, in PEM or as OpenSSH has it.

    Raises:
        UserError: The file holds no such key.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    text = _read(key_file)
    load = serialization.load_ssh_public_key if text.startswith(b"ssh-") else serialization.load_pem_public_key
    try:
        key = load(text)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(
            f"The file {str(key_file)!r} holds no Ed25519 public key: make it from the private one with "
            "`openssl pkey -pubout`."
        )
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _read(key_file: Path) -> bytes:
    try:
        with key_file.open("rb") as handle:
            return handle.read(_LONGEST_KEY)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The key {str(key_file)!r} cannot be read ({getattr(error, 'strerror', None) or error}): check the path."
        ) from None
