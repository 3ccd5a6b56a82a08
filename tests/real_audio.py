"""Where the real audio lies; tests that need it skip where it is absent."""

import os
from pathlib import Path

DATA = Path(os.environ.get("TOME_AUDIO_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
