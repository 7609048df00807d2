"""Points as text, for tests."""

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.text import TEXT_0_0_4
from stator.points import PointsAt


def exposed(*sources: PointsAt, format_: Format = TEXT_0_0_4, timestamps: bool = False) -> str:
    """The exposition of several sources by a new encoder."""
    return written(Encoder(format_, timestamps=timestamps), *sources)


def written(encoder: Encoder, *sources: PointsAt) -> str:
    """The exposition of several sources by an encoder that may have encoded others before."""
    exposition = encoder.exposition()
    for nth, points_at in enumerate(sources):
        exposition.add(f"source {nth}", points_at)
    return b"".join(exposition.pieces()).decode()
