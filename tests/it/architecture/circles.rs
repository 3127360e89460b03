//! Circles of imports among files.
//!
//! A file uses another one if it names an item that is defined there. An item that a file only
//! re-exports (`pub use`) counts as a use of the file that defines it. A parent that names its
//! own submodules does not use them. So a circle is among siblings, or leads out of a module and
//! back.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{Leaf, Token, spread, starts_path, text, tokens};

/// The path of a module from the root, which has an empty path.
type Module = Vec<String>;

/// The tokens of a file, and its imports and re-exports.
struct Source {
    tokens: Vec<Token>,
    imports: Vec<Import>,
}

struct Import {
    path: Vec<String>,
    name: String,
    passed_on: bool,
}

/// Returns every file that is part of a circle, with the files of the circle that it uses. `files`
/// are paths below the root of a crate, such as `web/api.rs`, and contents.
pub fn circles(files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let sources: BTreeMap<Module, Source> = files
        .iter()
        .map(|(file, content)| (module(file), content))
        .filter(|(module, _)| !module.iter().any(|part| part == "tests"))
        .map(|(module, content)| (module, tokens(content)))
        .map(|(module, tokens)| (module, Source { imports: imports(&tokens), tokens }))
        .collect();
    let crate_of = Crate { sources };
    let uses: BTreeMap<&Module, BTreeSet<Module>> =
        crate_of.sources.keys().map(|module| (module, crate_of.uses(module))).collect();
    let reached: BTreeMap<&Module, BTreeSet<Module>> =
        uses.keys().map(|module| (*module, reach(&uses, module))).collect();
    let name = |module: &Module| module.join("/");
    let in_circle = |from: &Module, to: &Module| reached[from].contains(to) && reached[to].contains(from);
    uses.iter()
        .map(|(from, to)| (name(from), to.iter().filter(|to| in_circle(from, to)).map(name).collect()))
        .filter(|(_, to): &(String, BTreeSet<String>)| !to.is_empty())
        .collect()
}

struct Crate {
    sources: BTreeMap<Module, Source>,
}

impl Crate {
    /// Returns the files that `module` uses, without itself and its own submodules.
    fn uses(&self, module: &Module) -> BTreeSet<Module> {
        let source = &self.sources[module];
        let mut used = BTreeSet::new();
        let mut renamed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for import in &source.imports {
            let Some(path) = self.absolute(module, &import.path) else { continue };
            if self.sources.contains_key(&path) {
                renamed.insert(&import.name, path);
            } else if !import.passed_on {
                used.extend(self.defined_in(&path, 0));
            }
        }
        for path in expressions(&source.tokens) {
            let path = match renamed.get(path[0].as_str()) {
                Some(imported) => imported.iter().chain(&path[1..]).cloned().collect(),
                None => path,
            };
            let absolute = if renamed.values().any(|imported| path.starts_with(imported)) {
                Some(path)
            } else {
                self.absolute(module, &path)
            };
            used.extend(absolute.and_then(|path| self.defined_in(&path, 0)));
        }
        used.retain(|used| !used.starts_with(module));
        used
    }

    /// Returns `path` as a path from the root; `None` if it leads out of this crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let join =
            |module: &[String], rest: &[String]| module.iter().chain(rest).cloned().collect::<Vec<_>>();
        match path.first()?.as_str() {
            "crate" | "pepay_bridge" => Some(path[1..].to_vec()),
            "super" => {
                let climbs = path.iter().take_while(|part| *part == "super").count();
                Some(join(&module[..module.len().checked_sub(climbs)?], &path[climbs..]))
            }
            _ => {
                let child = join(module, &path[..1]);
                self.sources.contains_key(&child).then(|| join(module, path))
            }
        }
    }

    /// Returns the file that defines the item at `path`. `followed` counts the re-exports so far.
    fn defined_in(&self, path: &[String], followed: usize) -> Option<Module> {
        let (module, rest) = (0..=path.len()).rev().find_map(|length| {
            self.sources.contains_key(&path[..length]).then(|| (path[..length].to_vec(), &path[length..]))
        })?;
        let passed_on = rest.first().and_then(|item| {
            let imports = self.sources[&module].imports.iter();
            imports.filter(|import| import.passed_on).find(|import| import.name == *item)
        });
        match passed_on {
            Some(import) if followed < 8 => {
                let path = self.absolute(&module, &import.path)?;
                let path: Vec<_> = path.into_iter().chain(rest[1..].iter().cloned()).collect();
                self.defined_in(&path, followed + 1)
            }
            _ => Some(module),
        }
    }
}

/// Returns the modules that `module` uses, directly or through others.
fn reach(uses: &BTreeMap<&Module, BTreeSet<Module>>, module: &Module) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut next = vec![module.clone()];
    while let Some(module) = next.pop() {
        let further = uses.get(&module).into_iter().flatten();
        next.extend(further.filter(|module| reached.insert((*module).clone())).cloned());
    }
    reached
}

/// Returns the module of a file below the root, such as `web/api.rs`.
fn module(file: &str) -> Module {
    match file.trim_end_matches(".rs") {
        "lib" | "main" => Module::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

fn imports(tokens: &[Token]) -> Vec<Import> {
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].text == "use") {
        let mut leaves: Vec<Leaf> = Vec::new();
        spread(tokens, at + 1, &[], &mut leaves);
        let passed_on = at > 0 && matches!(text(tokens, at - 1), "pub" | ")");
        let import = |leaf: Leaf| Import { path: leaf.named.path, name: leaf.name, passed_on };
        found.extend(leaves.into_iter().filter(|leaf| !leaf.named.path.is_empty()).map(import));
    }
    found
}

/// Returns the paths of more than one part outside of imports.
fn expressions(tokens: &[Token]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "use" {
            while at < tokens.len() && tokens[at].text != ";" {
                at += 1;
            }
        } else if text(tokens, at + 1) == "::" && starts_path(tokens, at) && !is_visibility(tokens, at) {
            let mut path = vec![tokens[at].text.clone()];
            let mut end = at + 1;
            while text(tokens, end) == "::" && text(tokens, end + 1) != "<" {
                path.push(text(tokens, end + 1).to_owned());
                end += 2;
            }
            found.push(path);
        }
        at += 1;
    }
    found
}

/// Returns whether the path at `at` is part of a visibility, such as `pub(in crate::store)`.
fn is_visibility(tokens: &[Token], at: usize) -> bool {
    at > 1 && text(tokens, at - 1) == "in" && text(tokens, at - 2) == "("
}
