"""Who acts: the caller as identity has established it, passed to everything that control does."""

from __future__ import annotations

from dataclasses import dataclass

from modelport.errors import NotAllowed
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

    def sees(self, key_id: str | None) -> bool:
        """Whether it may know of what a key has made: callers only of what is their own key's."""
        return self.may("viewer") or (self.key_id is not None and self.key_id == key_id)

    def require_own(self, key_id: str | None, what: str) -> None:
        """Developers change what anybody made, others what their own key made; raises NotAllowed."""
        if not (self.may("developer") or (self.key_id is not None and self.key_id == key_id)):
            raise NotAllowed(
                f"{what} is not your key's; that needs the role 'developer', {self.name!r} is {self.role!r}"
            )

    @property
    def is_operator(self) -> bool:
        """Whether the actor manages every project."""
        return self.role == "admin" and self.project == DEFAULT_PROJECT
