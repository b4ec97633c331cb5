"""What a mail says: a notice in words, by a template of the site's or a built-in one.

``templates/mail/NAME.txt.j2`` is Jinja2 that makes plain text. If its first line begins with
``Subject:``, that is the subject, and the text begins after the empty line that follows.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from slurm_gpu_policy import resources
from slurm_gpu_policy.adapters.notify.way import one_line, paragraphs
from slurm_gpu_policy.errors import NotifyFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_gpu_policy.model.notice import Notice

SUFFIX: Final = ".txt.j2"
_SUBJECT: Final = "Subject:"


class Wording:
    """Fills templates; those in *folders* come before the built-in ones of the same name."""

    def __init__(self, folders: Sequence[str] = ()) -> None:
        self._built_in = os.path.join(resources.folder("templates"), "mail")  # noqa: PTH118
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader([*folders, self._built_in]),
            undefined=StrictUndefined,
            autoescape=False,  # plain text
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def words(self, notice: Notice, user: str) -> tuple[str, str]:
        """Return the subject, which is one line, and the text for one *user*.

        Raises:
            NotifyFailed: the template is broken, or asks for a value that there is not.
        """
        values: dict[str, Any] = {name: one_line(value) for name, value in notice.values}
        values |= {
            "user": one_line(user),
            "subject": one_line(notice.subject),
            "text": paragraphs(notice.text),
            "rule": one_line(notice.rule),
            "severity": notice.severity,
            "time": datetime.fromtimestamp(notice.time, UTC).isoformat(),
        }
        file = notice.template + SUFFIX
        try:
            said = self._environment.get_template(file).render(values)
        except TemplateNotFound as error:
            msg = f"there is no mail template {error.name}"
            raise NotifyFailed(msg) from error
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            msg = f"the mail template {file} cannot be filled: {error}"
            raise NotifyFailed(msg) from error
        except OSError as error:
            msg = f"the mail template {file} cannot be read: {error.strerror}"
            raise NotifyFailed(msg) from error
        head, _, body = said.partition("\n")
        if not head.startswith(_SUBJECT):
            return values["subject"], paragraphs(said)
        return one_line(head.removeprefix(_SUBJECT)), paragraphs(body.lstrip("\n"))

    def problems(self) -> tuple[str, ...]:
        """Return which of the templates in use cannot be read as Jinja2."""
        found = []
        for file in sorted(os.listdir(self._built_in)):  # noqa: PTH208
            if file.endswith(SUFFIX):
                try:
                    self._environment.get_template(file)
                except (TemplateError, UnicodeDecodeError) as error:
                    found.append(f"the mail template {file} cannot be used: {error}")
                except OSError as error:
                    found.append(f"the mail template {file} cannot be read: {error.strerror}")
        return tuple(found)
