"""A collector of points with labels, a histogram and a summary, and the text that Prometheus scrapes."""

from stator.points import Histogram, Point, PointsAt, Summary
from tests.exposition.exposing import exposed


class Orders:
    """The orders of a shop."""

    def collect(self, now: float) -> PointsAt:
        checkouts = Histogram(buckets=((0.1, 2), (0.5, 3)), sum=1.7, count=4)
        baskets = Summary(quantiles=((0.5, 2), (0.9, 7)), sum=11, count=4)
        points = [
            Point("orders", "Orders so far", 3, type="counter", labels={"payment": "card"}),
            Point("orders", "Orders so far", 1, type="counter", labels={"payment": "invoice"}),
            Point("checkout", "Time from basket to order", checkouts, type="histogram", unit="seconds"),
            Point("basket_items", "Items in an ordered basket", baskets, type="summary"),
        ]
        return PointsAt("shop", now, labels={"country": "no"}, points=points)


def test_labels_a_histogram_and_a_summary_become_this_text() -> None:
    assert (
        exposed(Orders().collect(1795449820.4))
        == """
# HELP shop_orders_total Orders so far
# TYPE shop_orders_total counter
shop_orders_total{country="no",payment="card"} 3
shop_orders_total{country="no",payment="invoice"} 1

# HELP shop_checkout_seconds Time from basket to order
# TYPE shop_checkout_seconds histogram
shop_checkout_seconds_bucket{country="no",le="0.1"} 2
shop_checkout_seconds_bucket{country="no",le="0.5"} 3
shop_checkout_seconds_bucket{country="no",le="+Inf"} 4
shop_checkout_seconds_sum{country="no"} 1.7
shop_checkout_seconds_count{country="no"} 4

# HELP shop_basket_items Items in an ordered basket
# TYPE shop_basket_items summary
shop_basket_items{country="no",quantile="0.5"} 2
shop_basket_items{country="no",quantile="0.9"} 7
shop_basket_items_sum{country="no"} 11
shop_basket_items_count{country="no"} 4
"""
    )
