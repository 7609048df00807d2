"""The very start of stator.pyz, in words that any Python understands: says which ones it is for."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit("stator.pyz: built for @BUILT_FOR@; this is Python " + sys.version.split()[0])

from bootstrap_main import main

sys.exit(main())
