"""Data files that ship with the package; `fastnn.data` reads them."""
