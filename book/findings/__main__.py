"""Write what the rows say into the pages: ``python -m findings`` in book/."""

from findings import refresh

print("\n".join(refresh()) or "every number stands as the rows have it")
