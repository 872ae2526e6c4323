"""The map of all records that match: clusters with true counts, land below them, polygons."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest
import shapely
from playwright.sync_api import expect

import landcue
from landcue.search import Filter
from made_archive import make_archive
from visitor import LOST

N = 1500


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Records all over the earth, some without a place; there are no thumbnails."""
    folder = tmp_path_factory.mktemp("browser") / "wide"
    make_archive(folder, N)
    return folder


@pytest.fixture(scope="module")
def url(serve_all, wide):
    return serve_all(wide, "--collections", wide / "kept.sqlite").url


@pytest.fixture
def mapped(visit, url):
    guest = visit("?view=both", url=url)
    guest.expected.append(LOST)
    guest.settled()
    expect(said(guest)).to_contain_text("matching records in view")
    expect(guest.page.get_by_text("Drawing the map …")).to_have_count(0)
    return guest


@pytest.fixture(scope="module")
def archive(wide):
    return landcue.open(wide)


def said(guest):
    return guest.page.locator(".map-note")


def test_all_records_are_counted_where_they_are(mapped, archive):
    placed = archive.map_view().placed
    expect(said(mapped)).to_contain_text(f"of {placed:,} matching records in view")
    expect(said(mapped)).to_contain_text(f"{N - placed:,} more have no location")
    assert any("countries-110m" in url for url in mapped.asked)
    _, answer = mapped.answered(
        lambda: mapped.page.get_by_label("Color by").select_option("water"),
        lambda one: "label=water" in one.url,
    )
    assert sum(one["count"] for one in answer["clusters"]) == answer["inside"] <= placed
    expect(said(mapped)).to_contain_text(f"{answer['inside']:,} of {placed:,}")
    assert sum(one["labeled"] for one in answer["clusters"]) > 0
    expect(mapped.page.locator(".map-legend")).to_contain_text("100 % water")
    mapped.button("Zoom in").click()
    expect(said(mapped)).not_to_contain_text(f"{answer['inside']:,} of")


def test_a_polygon_is_drawn_kept_in_the_address_and_cleared(mapped, archive):
    mapped.button("Draw polygon").click()
    expect(mapped.page.locator(".map-holder.map-drawing")).to_be_visible()
    frame = mapped.page.locator(".map-holder").bounding_box()
    left, top, width, height = (frame[name] for name in ("x", "y", "width", "height"))
    for x, y in ((0.3, 0.3), (0.6, 0.35)):
        mapped.page.mouse.click(left + x * width, top + y * height)
        mapped.page.wait_for_timeout(400)
    last = (left + 0.45 * width, top + 0.7 * height)
    answer = mapped.searching(lambda: mapped.page.mouse.dblclick(*last))
    numbers = [
        float(one) for one in parse_qs(urlsplit(mapped.page.url).query)["polygon"][0].split(",")
    ]
    assert len(numbers) == 6
    shape = shapely.Polygon(list(zip(numbers[::2], numbers[1::2], strict=True)))
    inside = len(archive.search_all(where=Filter.parse(polygon=shape.wkt)))
    assert 0 < answer["plan"]["allowed"] == inside < N
    expect(mapped.chip("polygon")).to_contain_text("3 corners")
    expect(said(mapped)).to_contain_text("Searched polygon: 3 corners")
    mapped.page.reload()
    mapped.settled()
    expect(mapped.chip("polygon")).to_be_visible()
    mapped.searching(mapped.button("Clear polygon").click)
    assert "polygon" not in mapped.page.url


def test_a_polygon_comes_from_a_file(mapped, archive, tmp_path):
    ring = [[-20, -30], [60, -30], [60, 50], [-20, 50], [-20, -30]]
    file = tmp_path / "field.geojson"
    file.write_text(json.dumps({"type": "LineString", "coordinates": ring}))
    choose = mapped.page.get_by_label("Open GeoJSON file")
    choose.set_input_files(file)
    expect(mapped.page.get_by_text("The GeoJSON holds no polygon.")).to_be_visible()
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    file.write_text(json.dumps(feature))
    answer = mapped.searching(lambda: choose.set_input_files(file))
    box = len(archive.search_all(where=Filter.parse(polygon=json.dumps(feature))))
    assert 0 < answer["plan"]["allowed"] == box < N
    expect(mapped.chip("polygon")).to_contain_text("4 corners")


def test_a_search_shows_its_results_or_all_that_match(mapped):
    mapped.searching(lambda: mapped.card(0).press("q"))
    choice = mapped.page.get_by_label("Show on the map")
    expect(choice).to_have_value("hits")
    choice.select_option("all")
    expect(said(mapped)).to_contain_text("matching records in view")
    expect(mapped.page.locator(".map-legend")).to_contain_text("rank 1")
