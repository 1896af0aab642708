//! The documents: what they link to is there, and a reader of the README finds each.

use base::{documents, workspace};

/// Where a document links to within the checkout: file, or the document itself, and heading.
fn links(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let targets = targets.filter(|target| !target.contains("://"));
    targets.map(|target| match target.split_once('#') {
        Some((file, heading)) => (file, Some(heading)),
        None => (target, None),
    })
}

/// The names that headings have in links: lower case, with dashes for spaces and nothing for other signs.
fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let name = |line: &str| -> String {
        let signs = line.to_lowercase().replace(' ', "-");
        signs.chars().filter(|sign| sign.is_alphanumeric() || "-_".contains(*sign)).collect()
    };
    lines.map(name).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents::all().expect("documents");
    let mut count = 0;
    for (document, text) in &documents {
        for (file, heading) in links(text) {
            let place = match file {
                "" => document.clone(),
                file => document.with_file_name(file),
            };
            let place = place.canonicalize().unwrap_or_else(|error| {
                panic!("{}: {file}: {error}", document.display());
            });
            if let Some(heading) = heading {
                let text = documents.iter().find(|(path, _)| *path == place);
                let known =
                    text.is_some_and(|(_, text)| headings(text).iter().any(|it| it == heading));
                assert!(known, "{}: {file}#{heading}", document.display());
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} links");
}

#[test]
fn the_readme_lists_every_page() {
    let documents = documents::all().expect("documents");
    let root = workspace::root();
    let readme = documents.iter().find(|(path, _)| *path == root.join("README.md"));
    let (_, readme) = readme.expect("the README");
    let listed: Vec<_> = links(readme).map(|(file, _)| root.join(file)).collect();
    for (page, _) in documents.iter().filter(|(path, _)| path.parent() == Some(&root.join("docs")))
    {
        assert!(listed.contains(page), "{}", page.display());
    }
}
