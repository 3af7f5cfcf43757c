"""Execute, validate, refresh and publish the book.

* ``execute``: runs stale chapters with papermill into book/_build/executed/<profile>
* ``validate``: runs them again with nbval and compares the text with tests/book/expected
* ``refresh``: writes those expected texts from an executed copy
* ``publish``: stages the executed copies and builds the site into book/_build/html
* ``pdf``: prints the site into one file
* ``archive``: packs the site, to be read without a network
* ``fill_in``: gives a chapter that was opened by hand the profile of its machine

Each of the first four returns True if everything that was asked for was done, prints one line per chapter, and raises
:class:`BookError` where it cannot start.
"""

from addlib.book.expected import refresh
from addlib.book.opening import fill_in
from addlib.book.project import BookError
from addlib.book.publishing import publish
from addlib.book.running import execute
from addlib.book.takeaway import archive, pdf
from addlib.book.validating import validate

__all__ = ["BookError", "archive", "execute", "fill_in", "pdf", "publish", "refresh", "validate"]
