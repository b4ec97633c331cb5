"""What the controller remembers, in SQLite or PostgreSQL. Needs the extra ``controller``.

``connection.py`` opens transactions and turns every error of a database into RecordsUnavailable;
``upgrade.py`` and ``migrations/`` bring the tables to this release's form; ``records.py`` is what
the controller asks for.
"""
