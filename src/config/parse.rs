//! From JSON5 text to a tree with places.

use std::collections::HashMap;

use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::problem::{Kind, Problems};
use super::tree::{Files, Member, Node, Place, Trail, Value};

/// Largest file, in bytes.
pub(super) const MAX_FILE: usize = 2 << 20;
/// Deepest nesting of objects and lists.
pub(super) const MAX_NESTING: usize = 64;

/// The tree of one file, or a problem.
pub(super) fn parse(files: &Files, file: u16, problems: &mut Problems) -> Option<Node> {
    let text = files.text(file);
    let start = Place { file, offset: 0 };
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    match parse_to_ast(text, &CollectOptions::default(), &options) {
        Ok(result) => match result.value {
            Some(ast) => Converter { file, problems }.node(&ast, &Trail::ROOT, 0),
            None => {
                problems.error(start, Kind::Syntax, "", "the file is empty: write {} for the defaults");
                None
            }
        },
        Err(error) => {
            let place = Place { file, offset: offset(error.range().start) };
            let mut reason = error.kind().to_string();
            if let Some(first) = reason.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            problems.error(place, Kind::Syntax, "", format!("not JSON5: {reason}"));
            None
        }
    }
}

/// The text of a file, without a byte order mark.
///
/// # Errors
/// It is too large or not UTF-8, in words.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() > MAX_FILE {
        return Err(format!("the file is larger than {MAX_FILE} bytes"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 text at byte {}", error.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

struct Converter<'a> {
    file: u16,
    problems: &'a mut Problems,
}

impl Converter<'_> {
    fn node(&mut self, ast: &Ast<'_>, trail: &Trail<'_>, depth: usize) -> Option<Node> {
        let place = self.place(ast.range().start);
        if depth > MAX_NESTING {
            let text = format!("nested deeper than {MAX_NESTING} levels");
            self.problems.error(place, Kind::Syntax, trail, text);
            return None;
        }
        let value = match ast {
            Ast::NullKeyword(_) => Value::Null,
            Ast::BooleanLit(literal) => Value::Bool(literal.value),
            Ast::NumberLit(literal) => Value::Number(number(literal.value)),
            Ast::StringLit(literal) => Value::Text(literal.value.to_string()),
            Ast::Array(array) => {
                let elements = array.elements.iter().enumerate();
                let nodes = elements.map(|(i, element)| self.node(element, &trail.index(i), depth + 1));
                Value::List(nodes.collect::<Option<_>>()?)
            }
            Ast::Object(object) => {
                let mut members: Vec<Member> = Vec::with_capacity(object.properties.len());
                let mut seen: HashMap<&str, usize> = HashMap::new();
                for property in &object.properties {
                    let name = property.name.as_str();
                    let below = trail.key(name);
                    let node = self.node(&property.value, &below, depth + 1)?;
                    let place = self.place(property.range.start);
                    let member = Member { name: name.to_owned(), place, node };
                    match seen.get(name) {
                        Some(&earlier) => {
                            let text = "written twice in one object: only the second counts, remove one";
                            self.problems.warning(place, Kind::Value, below, text);
                            members[earlier] = member;
                        }
                        None => {
                            seen.insert(name, members.len());
                            members.push(member);
                        }
                    }
                }
                Value::Object(members)
            }
        };
        Some(Node { place, value })
    }

    fn place(&self, start: usize) -> Place {
        Place { file: self.file, offset: offset(start) }
    }
}

fn offset(start: usize) -> u32 {
    u32::try_from(start).unwrap_or(u32::MAX)
}

/// The value of a number as JSON5 writes it.
fn number(text: &str) -> f64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let magnitude = match hexadecimal {
        Some(hex) => hex
            .bytes()
            .fold(0.0, |sum, b| sum * 16.0 + f64::from(char::from(b).to_digit(16).unwrap_or_default())),
        None => digits.parse().unwrap_or(f64::NAN),
    };
    sign * magnitude
}
