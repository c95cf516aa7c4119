//! Makes the schema table from `src/registry/schema/facts.txt`, which says what its lines mean.
//!
//! The result is plain data without pointers (offsets into one text, indices into arrays), so
//! that it stays in read-only pages: see `registry::schema::table` for its form. What is said of types
//! and fields is beside it, compressed: see [`descriptions`].

#[path = "build/descriptions.rs"]
mod descriptions;

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

const FACTS: &str = "src/registry/schema/facts.txt";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed={FACTS}");
    // At addresses of its own choice the executable has a megabyte of pointers to put right, in each
    // of its processes: docs/decisions/0016.
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
    let facts = fs::read_to_string(FACTS).expect("facts.txt is part of the source");
    let schema = Schema::parse(&facts);
    let tables = Tables::of(&schema);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    write(&out.join("schema_tables.rs"), tables.render().as_bytes());
    write(&out.join("schema_types.rs"), render_constants(&schema).as_bytes());
    write(&out.join("schema_descriptions"), &descriptions::render(&schema.names()));
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("OUT_DIR can be written");
}

/// The facts as read, in the order of the file.
#[derive(Default)]
struct Schema<'a> {
    packages: Vec<Package<'a>>,
    types: Vec<Type<'a>>,
    /// From `core/v1.Pod` to the type's index.
    by_name: HashMap<String, usize>,
}

struct Package<'a> {
    short: &'a str,
    name: &'a str,
    group: &'a str,
    version: &'a str,
}

struct Type<'a> {
    package: usize,
    name: &'a str,
    facts: Vec<&'a str>,
    is_kind: bool,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    line: usize,
    name: &'a str,
    number: &'a str,
    shape: &'a str,
    facts: Vec<&'a str>,
}

fn bad_line(line: usize, why: impl Display) -> ! {
    panic!("{FACTS}:{line}: {why}")
}

impl<'a> Schema<'a> {
    fn parse(text: &'a str) -> Self {
        let mut schema = Self::default();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [comment, ..] if comment.starts_with('#') => {}
                _ if line.starts_with("  ") => schema.parse_field(number, &words),
                ["package", short, name, version] => schema.parse_package(short, name, version),
                [keyword @ ("kind" | "type"), name, facts @ ..] => {
                    schema.parse_type(*keyword == "kind", name, facts);
                }
                _ => bad_line(number, "neither a package nor a type nor a field"),
            }
        }
        schema
    }

    fn parse_package(&mut self, short: &'a str, name: &'a str, group_version: &'a str) {
        let (group, version) = group_version.split_once('/').unwrap_or(("", ""));
        self.packages.push(Package { short, name, group, version });
    }

    fn parse_type(&mut self, is_kind: bool, name: &'a str, facts: &[&'a str]) {
        let package = self.packages.len() - 1;
        let full = format!("{}.{name}", self.packages[package].short);
        self.by_name.insert(full, self.types.len());
        let facts = facts.to_vec();
        self.types.push(Type { package, name, facts, is_kind, fields: Vec::new() });
    }

    fn parse_field(&mut self, line: usize, words: &[&'a str]) {
        let [name, number, shape, facts @ ..] = words else {
            bad_line(line, "a field is a name, a number and a type");
        };
        let Some(owner) = self.types.last_mut() else { bad_line(line, "a field before any type") };
        if owner.fields.last().is_some_and(|before| before.name >= *name) {
            bad_line(line, "fields are sorted by name");
        }
        owner.fields.push(Field { line, name, number, shape, facts: facts.to_vec() });
    }
}

impl<'a> Schema<'a> {
    /// The OpenAPI names of types, and the names of their fields, in the order of the tables.
    fn names(&self) -> Vec<(String, Vec<&'a str>)> {
        let named = |one: &Type<'a>| {
            let name = format!("{}.{}", self.packages[one.package].name, one.name);
            (name, one.fields.iter().map(|field| field.name).collect())
        };
        self.types.iter().map(named).collect()
    }
}

/// The arrays of `registry::schema::table::Table`, each element as Rust text.
#[derive(Default)]
struct Tables {
    text: String,
    spans: HashMap<String, String>,
    packages: Vec<String>,
    types: Vec<String>,
    fields: Vec<String>,
    elements: Vec<String>,
    facts: Vec<String>,
}

impl Tables {
    fn of(schema: &Schema<'_>) -> Self {
        let mut tables = Self::default();
        tables.intern_facts(&[], 0);
        for package in &schema.packages {
            let entry = format!(
                "Package {{ name: {}, group: {}, version: {} }}",
                tables.span(package.name),
                tables.span(package.group),
                tables.span(package.version)
            );
            tables.packages.push(entry);
        }
        for owner in &schema.types {
            let first = tables.fields.len();
            for field in &owner.fields {
                tables.push_field(schema, owner, field);
            }
            let name = tables.span(owner.name);
            let union = owner.facts.iter().find_map(|fact| fact.strip_prefix("union="));
            let union = tables.span(union.unwrap_or_default());
            tables.types.push(format!(
                "Type {{ name: {name}, first: {first}, fields: {}, package: {}, is_kind: {}, is_atomic: {}, is_any: {}, union: {union} }}",
                owner.fields.len(),
                owner.package,
                owner.is_kind,
                owner.facts.contains(&"atomic"),
                owner.facts.contains(&"any"),
            ));
        }
        tables
    }

    fn push_field(&mut self, schema: &Schema<'_>, owner: &Type<'_>, field: &Field<'_>) {
        let name = self.span(field.name);
        let home = schema.packages[owner.package].short;
        let shape = self.shape(schema, home, field.shape, field.line);
        let mut path = field.number.split('.').filter(|part| *part != "-");
        let number: [&str; 3] = std::array::from_fn(|_| path.next().unwrap_or("0"));
        if path.next().is_some() {
            bad_line(field.line, "a field is at most three messages deep");
        }
        let facts = self.intern_facts(&field.facts, field.line);
        let number = number.join(", ");
        self.fields.push(format!(
            "Field {{ name: {name}, shape: {shape}, number: [{number}], facts: {facts} }}"
        ));
    }

    fn shape(&mut self, schema: &Schema<'_>, home: &str, text: &str, line: usize) -> String {
        for (open, close, variant) in [('[', ']', "List"), ('{', '}', "Map")] {
            if let Some(inner) = text.strip_prefix(open).and_then(|t| t.strip_suffix(close)) {
                let element = self.shape(schema, home, inner, line);
                return format!("Shape::{variant}(ElementRef({}))", self.element(element));
            }
        }
        let scalar = match text {
            "string" => "String",
            "bool" => "Bool",
            "int32" => "Int32",
            "int64" => "Int64",
            "double" => "Double",
            "bytes" => "Bytes",
            "quantity" => "Quantity",
            "int-or-string" => "IntOrString",
            "time" => "Time",
            "micro-time" => "MicroTime",
            "object" => "Object",
            "any" => "Any",
            name => {
                let full =
                    if name.contains('.') { name.to_owned() } else { format!("{home}.{name}") };
                let Some(index) = schema.by_name.get(&full) else {
                    bad_line(line, format_args!("no type `{full}`"));
                };
                return format!("Shape::Struct(TypeRef({index}))");
            }
        };
        format!("Shape::{scalar}")
    }

    fn element(&mut self, shape: String) -> usize {
        self.elements.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.elements.push(shape);
            self.elements.len() - 1
        })
    }

    /// The index of these facts in the array of facts; equal facts are kept once.
    fn intern_facts(&mut self, facts: &[&str], line: usize) -> usize {
        let mut set: HashMap<&str, String> = HashMap::new();
        for fact in facts {
            self.read_fact(fact, &mut set)
                .unwrap_or_else(|| bad_line(line, format_args!("`{fact}`")));
        }
        let mut entry = String::from("FieldFacts { ");
        for (name, unset) in [
            ("required", "false"),
            ("zero", "false"),
            ("wrapped", "false"),
            ("pointer", "false"),
            ("deprecated", "false"),
            ("list", "None"),
            ("map", "None"),
            ("patch", "PatchStrategy::None"),
            ("retain_keys", "false"),
            ("keys", "Span::EMPTY"),
            ("merge_key", "Span::EMPTY"),
            ("default", "Span::EMPTY"),
            ("values", "Span::EMPTY"),
        ] {
            let value = set.get(name).map_or(unset, String::as_str);
            write!(entry, "{name}: {value}, ").expect("a String takes all");
        }
        entry.push('}');
        self.facts.iter().position(|known| *known == entry).unwrap_or_else(|| {
            self.facts.push(entry);
            self.facts.len() - 1
        })
    }

    fn read_fact(&mut self, fact: &str, set: &mut HashMap<&str, String>) -> Option<()> {
        let (name, value) = fact.split_once('=').unwrap_or((fact, ""));
        match (name, value) {
            ("required", "") => set.insert("required", "true".into()),
            ("zero", "") => set.insert("zero", "true".into()),
            ("wrapped", "") => set.insert("wrapped", "true".into()),
            ("pointer", "") => set.insert("pointer", "true".into()),
            ("deprecated", "") => set.insert("deprecated", "true".into()),
            ("list", "atomic") => set.insert("list", "Some(ListKind::Atomic)".into()),
            ("list", "set") => set.insert("list", "Some(ListKind::Set)".into()),
            ("list", keys) => {
                set.insert("keys", self.span(keys.strip_prefix("map:")?));
                set.insert("list", "Some(ListKind::Map)".into())
            }
            ("map", "atomic") => set.insert("map", "Some(MapKind::Atomic)".into()),
            ("map", "granular") => set.insert("map", "Some(MapKind::Granular)".into()),
            ("patch", strategies) => {
                for strategy in strategies.split(',') {
                    match strategy {
                        "merge" => set.insert("patch", "PatchStrategy::Merge".into()),
                        "replace" => set.insert("patch", "PatchStrategy::Replace".into()),
                        "retainKeys" => set.insert("retain_keys", "true".into()),
                        _ => return None,
                    };
                }
                None::<String>
            }
            ("key", key) => set.insert("merge_key", self.span(key)),
            ("default", json) => set.insert("default", self.span(json)),
            ("enum", values) => set.insert("values", self.span(&values.replace('~', " "))),
            _ => return None,
        };
        Some(())
    }

    /// Where `text` is in the table's one text, which it is added to if it is new.
    fn span(&mut self, text: &str) -> String {
        if let Some(span) = self.spans.get(text) {
            return span.clone();
        }
        let at = self.text.find(text).unwrap_or_else(|| {
            self.text.push_str(text);
            self.text.len() - text.len()
        });
        let span = format!("Span {{ at: {at}, length: {} }}", text.len());
        self.spans.insert(text.to_owned(), span.clone());
        span
    }

    fn render(&self) -> String {
        let mut out =
            String::from("/// Every built-in type.\npub static BUILT_IN: Table = Table {\n");
        let arrays = [
            ("packages", "Package", &self.packages),
            ("types", "Type", &self.types),
            ("fields", "Field", &self.fields),
            ("elements", "Shape", &self.elements),
            ("facts", "FieldFacts", &self.facts),
        ];
        writeln!(out, "    text: Cow::Borrowed({:?}),", self.text).expect("a String takes all");
        for (field, _, _) in arrays {
            writeln!(out, "    {field}: Cow::Borrowed(&{}),", field.to_uppercase())
                .expect("a String takes all");
        }
        out.push_str("};\n");
        for (field, element, entries) in arrays {
            let (name, length, entries) =
                (field.to_uppercase(), entries.len(), entries.join(",\n    "));
            writeln!(out, "static {name}: [{element}; {length}] = [\n    {entries},\n];")
                .expect("a String takes all");
        }
        out
    }
}

/// One constant a kind. Where several versions have a kind of one name, the core group's or the
/// most mature one has the plain name, the others have their group and version behind it.
fn render_constants(schema: &Schema<'_>) -> String {
    let mut kinds: Vec<(usize, &Type<'_>)> =
        schema.types.iter().enumerate().filter(|(_, one)| one.is_kind).collect();
    kinds.sort_by_key(|(_, kind)| (kind.name, seniority(&schema.packages[kind.package])));
    let mut out = String::new();
    let mut before = "";
    for (index, kind) in kinds {
        let package = &schema.packages[kind.package];
        let mut name = screaming(kind.name);
        if kind.name == before {
            let suffix = package.short.replace('/', "_").to_uppercase();
            name = format!("{name}_{suffix}");
        }
        before = kind.name;
        writeln!(
            out,
            "/// {} of {}.\npub const {name}: TypeRef = TypeRef({index});",
            kind.name, package.short
        )
        .expect("a String takes all");
    }
    out
}

/// Sorts core before others, then v2 before v1 before v1beta2 before v1beta1 before v1alpha1.
fn seniority(package: &Package<'_>) -> (bool, bool, bool, std::cmp::Reverse<String>) {
    let version = package.version;
    (
        package.short != "core/v1",
        version.contains("alpha"),
        version.contains("beta"),
        std::cmp::Reverse(version.to_owned()),
    )
}

/// `CSIStorageCapacity` becomes `CSI_STORAGE_CAPACITY`.
fn screaming(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let follows_small = at > 0 && !letters[at - 1].is_uppercase();
        let begins_word = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (follows_small || begins_word) {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}
