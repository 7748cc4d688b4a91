"""Bring the live sessions of one store to another: `migrate(source, target)`, `await migrate_async(source, target)`.

    move=False  a copy: the target has what the source has; the source stays as it is. Of what goes on in the source meanwhile
                the target knows nothing: so it is for applications that are stopped, or for a rehearsal
    move=True   each session is carried over while requests go on, which use `Moving(target, source)`

Either may be interrupted at any moment, and begun again; with `resume`, a file, it goes on where it stopped. It ends with a
second walk through the source, which finds what was begun there meanwhile and compares what is in the target.
"""

from coatcheck.migration._flow import Progress, Report, migrate, migrate_async

__all__ = ["Progress", "Report", "migrate", "migrate_async"]
