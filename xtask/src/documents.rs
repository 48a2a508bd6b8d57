//! Checks of the Markdown pages: links and anchors, the beginning of each page, and the flags of
//! commands in their code blocks.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::layout;

/// Page that lists all flags of all programs.
const CONFIGURATION: &str = "docs/configuration.md";

/// First characters of the pages that `cargo xtask docs` generates.
const GENERATED: &str = "<!-- Made by `cargo xtask docs`";

/// A Markdown page.
struct Page {
    /// Path below the root of the workspace.
    path: PathBuf,
    text: String,
}

/// Fails if a page has findings, and lists them.
pub(crate) fn check() -> Result<()> {
    let root = layout::root();
    let mut pages = Vec::new();
    read_pages(root, Path::new(""), false, &mut pages)?;
    read_pages(root, Path::new("docs"), true, &mut pages)?;
    let findings = findings(&pages, &|path| root.join(path).exists());
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn read_pages(root: &Path, folder: &Path, recurse: bool, pages: &mut Vec<Page>) -> Result<()> {
    let shown = root.join(folder);
    for entry in fs::read_dir(&shown).with_context(|| format!("read {}", shown.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if recurse && entry.file_type()?.is_dir() {
            read_pages(root, &path, true, pages)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("read {}", path.display()))?;
            pages.push(Page { path, text });
        }
    }
    Ok(())
}

fn findings(pages: &[Page], exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let by_path: BTreeMap<&Path, &Page> = pages.iter().map(|page| (&*page.path, page)).collect();
    let flags = by_path.get(Path::new(CONFIGURATION)).map_or("", |page| &*page.text);
    let mut findings = Vec::new();
    for page in pages {
        let found = page
            .links()
            .filter_map(|link| broken(page, link, &by_path, exists))
            .chain(page.unknown_flags(flags))
            .chain(page.unusual_beginning());
        findings.extend(found.map(|finding| format!("{}: {finding}", page.path.display())));
    }
    findings
}

/// Returns the error of a relative link without a target.
fn broken(
    page: &Page,
    link: &str,
    pages: &BTreeMap<&Path, &Page>,
    exists: &dyn Fn(&Path) -> bool,
) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
    if !exists(&target) {
        return Some(format!("link to a missing file: {link}"));
    }
    let has_anchor = |target: &Page| target.anchors().iter().any(|known| known == anchor);
    let is_broken = !anchor.is_empty() && !pages.get(&*target).is_some_and(|page| has_anchor(page));
    is_broken.then(|| format!("link to a missing heading: {link}"))
}

/// Returns the target of a link, below the root of the workspace.
fn resolve(page: &Path, link: &str) -> PathBuf {
    let mut target = page.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => drop(target.pop()),
            Component::CurDir => {}
            other => target.push(other),
        }
    }
    target
}

impl Page {
    /// Returns each line, with true for lines of code blocks and their delimiters.
    fn lines(&self) -> impl Iterator<Item = (&str, bool)> {
        let mut is_inside = false;
        self.text.lines().map(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_inside ^= is_fence;
            (line, is_inside || is_fence)
        })
    }

    fn links(&self) -> impl Iterator<Item = &str> {
        self.lines()
            .filter(|(_, is_code)| !is_code)
            .flat_map(|(line, _)| line.split("](").skip(1))
            .filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
    }

    /// Returns the anchors of the headings in GitHub's format.
    fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (line, _) in self.lines().filter(|(line, is_code)| !is_code && line.starts_with('#')) {
            let anchor = slug(line.trim_start_matches('#'));
            let name = (0..=anchors.len())
                .map(|n| numbered(&anchor, n))
                .find(|name| !anchors.contains(name));
            anchors.extend(name);
        }
        anchors
    }

    /// Returns the flags of `ducktide` commands in code blocks that the page of all settings does not
    /// list.
    fn unknown_flags(&self, configuration: &str) -> Vec<String> {
        let code = self.lines().filter(|(_, is_code)| *is_code).map(|(line, _)| line);
        let commands = code.filter_map(|line| line.find("ducktide").map(|at| &line[at..]));
        commands
            .map(|line| line.split(" #").next().unwrap_or(line))
            .filter(|line| !line.contains("cargo "))
            .flat_map(|line| line.split_whitespace().skip(1))
            .map(|word| word.split(['=', ')', '`', ';']).next().unwrap_or(word))
            .filter(|word| word.strip_prefix("--").is_some_and(|name| !name.is_empty()))
            .filter(|flag| !lists(configuration, flag))
            .map(|flag| format!("unknown flag in a command: {flag}"))
            .collect()
    }

    /// Returns an error unless a page below `docs/` begins with its heading and has a command before
    /// the second heading.
    fn unusual_beginning(&self) -> Option<String> {
        if !self.path.starts_with("docs") || self.text.starts_with(GENERATED) {
            return None;
        }
        if !self.text.starts_with("# ") {
            return Some("the first line is not the heading".to_owned());
        }
        let beginning = self.lines().take_while(|(line, code)| *code || !line.starts_with("## "));
        let has_command = beginning.into_iter().any(|(_, is_code)| is_code);
        (!has_command).then(|| "no command before the second heading".to_owned())
    }
}

fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn numbered(anchor: &str, earlier: usize) -> String {
    if earlier == 0 { anchor.to_owned() } else { format!("{anchor}-{earlier}") }
}

/// Reports that a page contains the flag, not only a longer one.
fn lists(configuration: &str, flag: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
    configuration.match_indices(flag).any(|(at, _)| ends(&configuration[at + flag.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: &[(&str, &str)] = &[
        (CONFIGURATION, "<!-- Made by `cargo xtask docs` -->\n| `--topics TOPIC` |"),
        (
            "docs/a.md",
            "# A page\n\n```sh\nducktide-consumer --topics x # --not-read\n```\n## Kafka's `b`",
        ),
    ];

    /// Returns the findings after adding another page.
    fn found(path: &str, text: &str) -> Vec<String> {
        let page = |(path, text): (&str, &str)| Page { path: path.into(), text: text.to_owned() };
        let pages: Vec<_> = PAGES.iter().copied().chain([(path, text)]).map(page).collect();
        findings(&pages, &|path| pages.iter().any(|page| page.path == path))
    }

    #[test]
    fn links_and_anchors_that_exist_are_accepted() {
        let text = "[a](docs/a.md) [b](docs/a.md#kafkas-b) [c](https://x.y/z#q) [d](#top)\n# Top\n";
        assert_eq!(found("README.md", text), [""; 0]);
        assert_eq!(found("docs/x/b.md", "# B\n```\nls\n```\n[a](../a.md#a-page)"), [""; 0]);
    }

    #[test]
    fn a_missing_file_or_heading_is_found() {
        assert_eq!(
            found("README.md", "[a](a.md) [b](docs/a.md#c)\n```\n[code](nowhere.md)\n```"),
            [
                "README.md: link to a missing file: a.md",
                "README.md: link to a missing heading: docs/a.md#c",
            ]
        );
    }

    #[test]
    fn a_second_heading_of_one_name_is_numbered() {
        assert_eq!(found("README.md", "# Same\n# Same\n[2](#same-1)"), [""; 0]);
        assert_eq!(found("README.md", "# Same\n# Same\n[3](#same-2)").len(), 1);
    }

    #[test]
    fn a_flag_that_no_program_has_is_found() {
        let text = "```sh\nducktide status --topic x --topics y\ncargo xtask demo --keep\n```";
        assert_eq!(found("README.md", text), ["README.md: unknown flag in a command: --topic"]);
    }

    #[test]
    fn a_page_without_a_command_at_its_beginning_is_found() {
        assert_eq!(found("docs/b.md", "# B\n## C\n```\nls\n```").len(), 1);
        assert_eq!(found("docs/b.md", "B\n```\nls\n```").len(), 1);
    }
}
