from skimbal.study.pictures import describe_scores
from tests.study.data import reported


def test_scores_are_listed_from_the_best_where_less_is_better():
    study = reported(scoring="log_loss", samplers=["uniform"])
    alt = describe_scores(study)
    low, high = sorted(study.estimates(), key=lambda e: e.mean)
    assert 0 < alt.index(f"{low.loss} {low.mean:.3f}") < alt.index(f"{high.loss} {high.mean:.3f}")
