"""What can go wrong, for callers to catch.

QuarterjackError
 ├─ SchemaOutdated     the database lacks a migration this release needs
 ├─ SchemaUnknown      the database was migrated by another line of releases, or a migration file was edited
 ├─ SettingInvalid     an environment variable or option has a value that cannot be used
 ├─ JobInvalid         a job cannot be enqueued as asked
 └─ JobUnknown         there is no such job
"""


class QuarterjackError(Exception):
    """Something that Quarterjack promised cannot be kept; the message says what to do."""


class SchemaOutdated(QuarterjackError):
    """The database lacks migrations; run quarterjack-migrate."""


class SchemaUnknown(QuarterjackError):
    """The database holds migrations that this release does not know, or in another form."""


class SettingInvalid(QuarterjackError):
    """A setting has a value that cannot be used."""


class JobInvalid(QuarterjackError, ValueError):
    """A job cannot be enqueued as asked."""


class JobUnknown(QuarterjackError, LookupError):
    """There is no job of that id, or no longer."""
