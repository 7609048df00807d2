"""Points as text, for tests: what a encoder makes of them that has written nothing before."""

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.text import TEXT_0_0_4
from stator.points import PointsAt


def exposed(*sources: PointsAt, format_: Format = TEXT_0_0_4, timestamps: bool = False) -> str:
    """A whole exposition of several sources."""
    return written(Encoder(format_, timestamps=timestamps), *sources)


def written(encoder: Encoder, *sources: PointsAt) -> str:
    """A whole exposition by a encoder that may have written others."""
    exposition = encoder.exposition()
    for nth, points_at in enumerate(sources):
        exposition.add(f"source {nth}", points_at)
    return b"".join(exposition.pieces()).decode()
