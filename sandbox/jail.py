"""What a jail consists of, as reported by the process that built it (spec/07 §8)."""

import json
from dataclasses import asdict, dataclass

MANDATORY = ("no_new_privs", "rlimits", "seccomp")
"""In the order in which one needs another."""
OPTIONAL = (
    "unprivileged_uid",
    "no_capabilities",
    "landlock",
    "user_namespace",
    "mount_namespace",
    "empty_root",
    "network_namespace",
    "ipc_namespace",
    "uts_namespace",
    "pid_namespace",
)
_LAYERS = frozenset(MANDATORY + OPTIONAL)


class SandboxUnavailable(Exception):
    """No sandbox can be had on this machine; the sentence says what is missing."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the jail: whether it is there, and if not, why."""

    name: str
    active: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JailReport:
    """Every layer of the jail."""

    layers: tuple[Layer, ...]

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the layers that are there."""
        return tuple(layer.name for layer in self.layers if layer.active)

    @property
    def missing(self) -> tuple[Layer, ...]:
        """The layers that are not."""
        return tuple(layer for layer in self.layers if not layer.active)

    def require(self) -> None:
        """Raise `SandboxUnavailable` unless every mandatory layer is there."""
        reported = {layer.name: layer for layer in self.layers}
        missing = [
            reported.get(name, Layer(name, active=False, detail="it was not reported"))
            for name in MANDATORY
            if name not in self.active
        ]
        # One that failed is the reason why another was not tried.
        for layer in sorted(missing, key=lambda layer: layer.name not in reported):
            raise SandboxUnavailable(
                "this machine cannot run other people's programs: the layer"
                f" {layer.name} of the jail is missing ({layer.detail})"
            )

    def encode(self) -> bytes:
        """Encode the report for the control socket."""
        return json.dumps([asdict(layer) for layer in self.layers]).encode()


def decode_report(data: bytes) -> JailReport:
    """Decode a report. Raises `SandboxUnavailable` if it is none."""
    try:
        layers = tuple(
            Layer(str(item["name"]), item["active"] is True, str(item["detail"]))
            for item in json.loads(data)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SandboxUnavailable("the sandbox's launcher sent a report that is none") from None
    if any(layer.name not in _LAYERS for layer in layers):
        raise SandboxUnavailable("the sandbox's launcher reports a layer that does not exist")
    return JailReport(layers)
