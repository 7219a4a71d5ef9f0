"""The shared checks of ``test_shelves.py``, one file per shelf: every ``check_*`` runs on all its methods."""
