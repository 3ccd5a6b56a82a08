"""Sample identification by retrieval: windows of songs against an index of originals."""

from tome_audio.retrieval.alignment import AlignOptions
from tome_audio.retrieval.embedder import Embedder
from tome_audio.retrieval.embedding import EmbeddedWindows, embed_reference, embed_song
from tome_audio.retrieval.identify import Heard, Identified, Match, identify, identify_windows
from tome_audio.retrieval.index import Added, SampleIndex, TrackProblem
from tome_audio.retrieval.matrix import IndexMatrix
from tome_audio.retrieval.search import ExactSearch, FaissSearch, Search, score_tracks
from tome_audio.retrieval.threshold import Calibration, calibrate, read_calibration, write_calibration
from tome_audio.retrieval.votes import VoteOptions
from tome_audio.retrieval.windows import Windows, stream_windows

__all__ = [
    "Added",
    "AlignOptions",
    "Calibration",
    "EmbeddedWindows",
    "Embedder",
    "ExactSearch",
    "FaissSearch",
    "Heard",
    "Identified",
    "IndexMatrix",
    "Match",
    "SampleIndex",
    "Search",
    "TrackProblem",
    "VoteOptions",
    "Windows",
    "calibrate",
    "embed_reference",
    "embed_song",
    "identify",
    "identify_windows",
    "read_calibration",
    "score_tracks",
    "stream_windows",
    "write_calibration",
]
