"""Tables of attribution maps: their scores, and how those of two models agree."""

from collections.abc import Iterator

from visavis.report.labels import IN_PERCENT, SCORES, the
from visavis.report.material import Material
from visavis.report.table import Cell, Heading, Row, Table, headings, score, share
from visavis.report.text import numbers
from visavis.report.text.numbers import Interval, Values

FAITHFULNESS = (
    *("srg", "srg_mean_fill", "srg_blur_fill", "deletion", "insertion"),
    *("contrast", "idsds", "keep_top_20"),
)
ON_THE_MASK = ("relevance_mass", "pointing_hit", "mask_auc")


def tables(material: Material) -> dict[str, Table]:
    """By name."""
    found = {
        "faithfulness": _scores(material, "Scores", FAITHFULNESS),
        "composites": _composites(material),
        "agreement": _agreement(material),
        "transfer": _transfer(material),
    }
    for role, model in material.models.items():
        found[f"{role}_robustness"] = _robustness(model.explanations)
    explained = [model.explanations for model in material.models.values()]
    if explained[0]["mask_chance"]:
        found["on_the_mask"] = _scores(material, "Scores on the mask", ON_THE_MASK)
    if all(of.get("other_background") for of in explained):
        found["other_background"] = _other_background(material)
    return found


def methods(material: Material, *, baselines: bool = False) -> Iterator[tuple[Row, str, Values]]:
    """For each method of each model a row without cells, its name, and what is known of it."""
    for role, model in material.models.items():
        explanations = model.explanations
        entries = {**explanations["methods"], **(explanations["baselines"] if baselines else {})}
        for name, entry in entries.items():
            yield Row(entry["label"], (), role, material.labels[role]), name, entry


def _scores(material: Material, title: str, keys: tuple[str, ...]) -> Table:
    """Methods and baselines, with both intervals where there are two."""
    rows = [
        row._replace(cells=[_both(entry["scores"][key], key in IN_PERCENT) for key in keys])
        for row, _, entry in methods(material, baselines=True)
    ]
    return Table(title, headings("", *(SCORES[key] for key in keys)), rows)


def _both(interval: Interval | None, percent: bool) -> Cell:
    cell = share(interval) if percent else score(interval)
    other = numbers.other_classes(interval, 100, 1) if percent else numbers.other_classes(interval)
    return cell._replace(text=cell.text + other)


def _robustness(explanations: Values) -> Table:
    changes = ("noise", "mirrored", "shifted")
    rows = []
    for entry in (*explanations["methods"].values(), *explanations["baselines"].values()):
        stable = entry.get("robustness")
        cells = [score(entry["scores"]["gini"]), share(entry["scores"]["largest_part"])]
        cells += [score(stable[change]) if stable else Cell("–") for change in changes]
        rows.append(Row(entry["label"], cells))
    columns = ("Gini index", "Largest connected part", "Noise", "Mirrored", "Shifted")
    return Table("Complexity and robustness", headings("", *columns), rows)


def _composites(material: Material) -> Table:
    parts = material.cross_model["composites"]
    rows = []
    for row, name, method in methods(material):
        energy = [parts[kind]["methods"][row.role][name]["energy"] for kind in ("halves", "box")]
        star = "" if method["class_specific"] else " *"
        rows.append(row._replace(name=row.name + star, cells=[share(of) for of in energy]))
    head = headings("Share of the map on its class’s part", "halves", "box")
    return Table("Composites", head, rows)


def _other_background(material: Material) -> Table:
    rows = []
    for row, name, _ in methods(material):
        found = material.models[row.role].explanations["other_background"]["methods"].get(name)
        if found:
            rows.append(row._replace(cells=[score(found["map"]), score(found["map_baseline"])]))
    columns = ("same image", "another image of the class")
    head = headings("Rank correlation of the maps on both backgrounds", *columns)
    return Table("On another background", head, rows)


def _agreement(material: Material) -> Table:
    second, of = the(material.labels["second"]), material.models["second"].explanations["methods"]
    rows = []
    for pair in material.comparison["similarity"]["pairs"]:
        cells = [score(pair["agreement"]), score(pair["permutation_baseline"])]
        cells.append(_both(pair["above_chance"], percent=False))
        cells += [share(pair["top_k_iou"]), share(pair["top_k_iou_baseline"])]
        rows.append(Row(of[pair["second_method"]]["label"], cells))
    head = headings(
        Heading(f"Map of {second}", "second"),
        *("Rank correlation", "Permutation baseline", "Above chance"),
        *("Top-k IoU", Heading("Permutation baseline", alone="Permutation baseline of the IoU")),
    )
    return Table(f"Agreement with each map of {second}", head, rows)


def _transfer(material: Material) -> Table:
    first, second = (model.explanations["methods"] for model in material.models.values())
    rows = []
    for pair in material.cross_model["transfer"]:
        name, other = pair["first_method"], pair["second_method"]
        both = f" and {second[other]['label']}" if name != other else ""
        cells = [score(pair["first_transfer"]), score(pair["second_transfer"])]
        rows.append(Row(first[name]["label"] + both, cells))
    a, b = material.labels.values()
    head = headings(
        "Share of its own SRG",
        Heading(f"{a}, with {the(b)}’s map", "first"),
        Heading(f"{b}, with {the(a)}’s map", "second"),
    )
    return Table("What each model keeps with the other's map", head, rows)
