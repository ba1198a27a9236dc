"""Who acts: the caller as identity has established it, passed to everything that control does."""

from __future__ import annotations

from dataclasses import dataclass

from modelport.schemas.access import ROLES, Role

#: The project that is there from the start; its administrators are the operators of the server.
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Actor:
    """A caller in a project."""

    project_id: int
    project: str
    name: str
    """What the audit shows: the key's name, ``owner`` or ``loopback``."""
    role: Role
    key_id: str | None = None
    request_id: str | None = None

    def may(self, role: Role) -> bool:
        """Whether the actor's role covers ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def is_operator(self) -> bool:
        """Whether the actor manages every project."""
        return self.role == "admin" and self.project == DEFAULT_PROJECT
