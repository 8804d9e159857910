"""Why the embedded services could not do what was asked."""


class EmbeddedError(Exception):
    """The embedded services refused."""

    code = "embedded_services"


class BinariesMissing(EmbeddedError):
    """No server program was found: neither its package, nor an override, nor one on PATH."""

    code = "embedded_binaries_missing"


class PortTaken(EmbeddedError):
    """A port that was configured is in use by another program."""

    code = "embedded_port_taken"


class StartFailed(EmbeddedError):
    """A service ended or stayed silent instead of becoming ready."""

    code = "embedded_start_failed"


class StopFailed(EmbeddedError):
    """A service did not end when told to."""

    code = "embedded_stop_failed"


class StateDamaged(EmbeddedError):
    """The file that keeps ports and passwords does not fit the data beside it."""

    code = "embedded_state_damaged"


class VersionMismatch(EmbeddedError):
    """The data was written by another major version of Postgres."""

    code = "embedded_version_mismatch"


class FolderRefused(EmbeddedError):
    """A folder for the services' data cannot be used safely."""

    code = "embedded_folder_refused"


class Supervised(EmbeddedError):
    """`billing run` is at work in this folder."""

    code = "already_running"


class LauncherBusy(EmbeddedError):
    """Another launcher holds the lock for longer than any start can take."""

    code = "embedded_launcher_busy"
