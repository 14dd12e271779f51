"""What can go wrong, in the registry's own words: one class per meaning, no HTTP and no SQL.

``api/errors.py`` turns each class into a status and one of the specification's codes; a program that uses distsql
as a library catches these. ``detail`` is a JSON value that tells machines what the message tells people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Detail = Mapping[str, object] | Sequence[object] | str | None


class DistsqlError(Exception):
    """Base of everything that distsql raises on purpose: the message says what is wrong and how to mend it."""

    def __init__(self, message: str, *, detail: Detail = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


# -- what a caller of the registry did or asked for ---------------------------------------------------------------


class RegistryError(DistsqlError):
    """A registry operation that was refused; nothing was changed."""


class NameInvalidError(RegistryError):
    """The repository's name is outside the specification's grammar, or too long."""


class NameUnknownError(RegistryError):
    """The registry has no repository of this name (or the caller may not know of it)."""


class ReferenceInvalidError(RegistryError):
    """Neither a tag nor a digest of the specification's grammar."""


class TagUnknownError(RegistryError):
    """The repository has no live tag of this name."""


class TagChangedError(RegistryError):
    """A compare-and-swap of a tag found another value than the one expected; ``detail`` has the current digest."""


class TooManyTagsError(RegistryError):
    """More tags in one manifest push than one transaction takes."""


class DigestInvalidError(RegistryError):
    """A digest that is malformed, of an unsupported algorithm, or not that of the content."""


class ManifestUnknownError(RegistryError):
    """The repository has no such manifest."""


class ManifestInvalidError(RegistryError):
    """The payload is no manifest of its media type."""


class ManifestTooLargeError(RegistryError):
    """The payload is over the limit; it was not read to its end."""


class ManifestUnverifiedError(RegistryError):
    """A signature that comes with the manifest is missing, wrong, or of a key that doesn't match."""


class ManifestReferencesUnknownError(RegistryError):
    """Blobs or manifests that the manifest refers to are not in the repository; ``detail`` lists all of them."""


class BlobUnknownError(RegistryError):
    """The repository has no such blob."""


class InUseError(RegistryError):
    """A live manifest still needs what was to be deleted; ``detail`` tells which."""


class UploadUnknownError(RegistryError):
    """No such upload session in this repository: never begun, finished, cancelled, or expired."""


class UploadRangeError(RegistryError):
    """A chunk that doesn't begin where the upload stands. The session lives on at ``offset`` bytes."""

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message, detail={"offset": offset})
        self.offset = offset


class UploadBusyError(RegistryError):
    """Another request is writing to this upload right now. The session lives on."""


class SizeInvalidError(RegistryError):
    """The body is shorter or longer than it said it would be."""


class RangeUnsatisfiableError(RegistryError):
    """No byte of the content lies in the range asked for."""

    def __init__(self, message: str, *, length: int) -> None:
        super().__init__(message, detail={"length": length})
        self.length = length


class PageInvalidError(RegistryError):
    """A page size that is no whole number of zero or more."""


class RefusedError(RegistryError):
    """Something that the caller may do, but not here or now, by the settings of the registry, tenant or repository."""


class ReadOnlyError(RefusedError):
    """The registry, the tenant or the repository is switched to read-only."""


class TenantSuspendedError(RefusedError):
    """The tenant is suspended: nothing of it can be read or written."""


class QuotaExceededError(RefusedError):
    """The tenant would use more than its quota."""


class TagImmutableError(RefusedError):
    """The tag is protected by a pattern of its tenant or repository: it can't be moved nor deleted."""


class CreationRefusedError(RefusedError):
    """The tenant lets only some callers make repositories."""


class DeletionRefusedError(RefusedError):
    """Deleting is switched off in the tenant or repository."""


class SettingInvalidError(RegistryError):
    """A setting of a tenant or repository that can't be read, or has no sense."""


class RepositoryExistsError(RegistryError):
    """The name belongs to another repository."""


class TenantUnknownError(RegistryError):
    """There is no tenant of this name."""


class TenantExistsError(RegistryError):
    """The name belongs to another tenant."""


class AccountUnknownError(RegistryError):
    """The tenant has no account of this name."""


class AccountExistsError(RegistryError):
    """The tenant has another account of this name."""


class AccountInvalidError(RegistryError):
    """A login name that is not TENANT/NAME."""


class GrantInvalidError(RegistryError):
    """A grant that is not PATTERN:ACTIONS, or of another tenant than the account."""


class CredentialsInvalidError(RegistryError):
    """No account has this name and secret just now, or a token that doesn't count (any more)."""


class WebhookUnknownError(RegistryError):
    """The tenant has no webhook of this number."""


class AddressRefusedError(RegistryError):
    """Nothing is sent there: no http or https URL, or an address that is not of the internet."""


class DeliveryFailedError(RegistryError):
    """What was sent elsewhere didn't arrive, or had no answer."""


class AuditExportError(RegistryError):
    """Old events can't be written out just now, or what was written isn't what was sealed; nothing was dropped."""


class UnsupportedError(RegistryError):
    """The operation doesn't exist, or is switched off here."""


# -- what is wrong with the machinery -----------------------------------------------------------------------------


class UnavailableError(DistsqlError):
    """Part of the machinery doesn't answer; trying again in ``retry_after`` seconds may help."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CatalogueUnavailableError(UnavailableError):
    """PostgreSQL is away, restarting, or out of connections."""


class CatalogueBusyError(CatalogueUnavailableError):
    """PostgreSQL is there, but others hold what the work needs, or it takes too long: nothing is committed."""


class StoreUnavailableError(UnavailableError):
    """The byte store is away or failing."""


class StoreFullError(UnavailableError):
    """The byte store has no room for the content."""


class BytesMissingError(DistsqlError):
    """The catalogue names bytes that the store doesn't have, or not at their length: ``distsql verify`` tells all."""


class ContentCorruptError(DistsqlError):
    """Stored content doesn't match its digest any more; pushing it again mends it."""


class SchemaError(DistsqlError):
    """The database's schema is not the one that this version works with; the message has the command that mends it."""


class SettingsError(DistsqlError):
    """Settings that contradict each other, are malformed, or would be unsafe."""


class ReportInvalidError(SettingsError):
    """There is no such report, or not what it was asked for."""


class EmbeddedPostgresError(DistsqlError):
    """The private PostgreSQL could not be found, started or stopped."""
