"""Jobs: what takes long, queued, run apart, and gone on with after a crash.

``service`` is what callers ask. ``runner`` runs what was accepted (``durable`` calls it, again after a crash): through
``gate`` into a ``process``, whose inside is ``worker``. ``run`` says what a kind of work is, ``records`` writes down
what becomes of it, ``schedules`` submits by the clock.
"""
