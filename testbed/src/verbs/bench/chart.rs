//! Draws the course of [a compressed day](super::day).

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::day::{Course, Look};

const SIZE: (u32, u32) = (900, 360);

/// Red for the lake that is left alone, teal for the one that is kept.
const COLOURS: [RGBColor; 2] = [RGBColor(200, 60, 50), RGBColor(20, 130, 130)];

/// Two charts beside each other: files, and time of a query.
pub(super) fn draw(file: &Path, courses: &[Course]) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    let failed = |error: String| anyhow!("draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
    let halves = area.split_evenly((1, 2));
    let charts: [(&str, Value); 2] = [
        ("data files of the table", |look| f64::from(look.files)),
        ("one query, ms (opening the lake included)", |look| look.query_ms),
    ];
    for (half, (title, value)) in halves.iter().zip(charts) {
        chart(half, title, courses, value).map_err(|error| failed(error.to_string()))?;
    }
    area.present().map_err(|error| failed(error.to_string()))
}

/// What is drawn of a look.
type Value = fn(&Look) -> f64;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn chart<'a>(
    area: &Area<'a>,
    title: &str,
    courses: &[Course],
    value: Value,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let greatest = |of: &dyn Fn(&Look) -> f64| {
        courses.iter().flat_map(|course| &course.looks).map(of).fold(1.0, f64::max)
    };
    let (minutes, top) = (greatest(&|look| look.minutes), greatest(&value));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..minutes, 0.0..top * 1.05)?;
    chart.configure_mesh().x_desc("minutes").light_line_style(WHITE).draw()?;
    for (course, colour) in courses.iter().zip(COLOURS) {
        let points = course.looks.iter().map(|look| (look.minutes, value(look)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(course.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.2))
        .draw()
}
