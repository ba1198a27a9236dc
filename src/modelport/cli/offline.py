"""The little that the command line does without a server: the first key, straight into the home's database."""

from __future__ import annotations

import secrets

from modelport.control.identity import Identity
from modelport.schemas.access import KeyCreate, NewKey
from modelport.settings import Settings
from modelport.storage.database import Database


def create_key(settings: Settings, wish: KeyCreate) -> NewKey:
    """Make a key in the database of these settings, which is brought up to date first, as the machine's owner."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.migrate()
        token = secrets.token_urlsafe()
        identity = Identity(database, token, required=False)
        return identity.create(identity.authenticate(token), wish)
    finally:
        database.close()


def has_keys(settings: Settings) -> bool:
    """Whether a key was ever made: then the server wants one of every caller."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        database.migrate()
        return Identity(database, None, required=False).required
    finally:
        database.close()
