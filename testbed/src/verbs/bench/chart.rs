//! Charts of [a compressed day](super::day).

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::day::{DaySample, LakeSeries};

const SIZE: (u32, u32) = (900, 360);

/// Colours: red for the lake without a compactor, teal for the one with a compactor.
const COLOURS: [RGBColor; 2] = [RGBColor(200, 60, 50), RGBColor(20, 130, 130)];

/// Draws two charts next to each other: number of files, and query time.
pub(super) fn draw(file: &Path, series: &[LakeSeries]) -> Result<()> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    let failed = |error: String| anyhow!("draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
    let halves = area.split_evenly((1, 2));
    let charts: [(&str, SampleValue); 2] = [
        ("data files of the table", |sample| f64::from(sample.files)),
        ("one query, ms (opening the lake included)", |sample| sample.query_ms),
    ];
    for (half, (title, value)) in halves.iter().zip(charts) {
        chart(half, title, series, value).map_err(|error| failed(error.to_string()))?;
    }
    area.present().map_err(|error| failed(error.to_string()))
}

/// Value of a sample that a chart shows.
type SampleValue = fn(&DaySample) -> f64;

type ChartArea<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn chart<'a>(
    area: &ChartArea<'a>,
    title: &str,
    series: &[LakeSeries],
    value: SampleValue,
) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
    let greatest = |of: &dyn Fn(&DaySample) -> f64| {
        series.iter().flat_map(|series| &series.samples).map(of).fold(1.0, f64::max)
    };
    let (minutes, top) = (greatest(&|sample| sample.minutes), greatest(&value));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..minutes, 0.0..top * 1.05)?;
    chart.configure_mesh().x_desc("minutes").light_line_style(WHITE).draw()?;
    for (series, colour) in series.iter().zip(COLOURS) {
        let points = series.samples.iter().map(|sample| (sample.minutes, value(sample)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.2))
        .draw()
}
