"""Run the command line as `python -m skerry.app`."""

from __future__ import annotations

import sys

from skerry.app.main import main

sys.exit(main())
