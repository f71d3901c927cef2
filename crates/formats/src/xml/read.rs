//! Reading, within limits.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Attribute, Element, Place, XmlError};

/// The longest document.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// The deepest nesting.
pub(super) const MOST_DEEP: usize = 32;
/// The most elements of a document.
const MOST_ELEMENTS: usize = 20_000;
/// The most attributes of an element.
const MOST_ATTRIBUTES: usize = 64;
/// The longest name of an element or attribute.
const LONGEST_NAME: usize = 128;

/// Reads a document.
///
/// # Errors
/// [`XmlError`] when it is not well-formed, beyond a limit, or wants more than
/// its own text: a document type or an entity.
pub fn read(text: &str) -> Result<Element, XmlError> {
    if text.len() > MOST_BYTES {
        return Err(XmlError::Large(text.len()));
    }
    // As XML says it: every end of a line is one line feed.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let document = Document::new(&text);
    if let Some((at, character)) = text.char_indices().find(|(_, c)| !is_xml(*c)) {
        let place = document.place(at);
        return Err(XmlError::Character { place, character });
    }
    document.tree()
}

/// Whether XML 1.0 has the character.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

struct Document<'a> {
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

impl<'a> Document<'a> {
    fn new(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let lines = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        Self { text, lines }
    }

    fn place(&self, at: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines[line - 1];
        let before = self
            .text
            .get(start..at.min(self.text.len()))
            .unwrap_or_default();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // Bounded, so that a document of one line does not cost its square.
        let column = before.chars().take(10_000).count() + 1;
        Place {
            line: number(line),
            column: number(column),
        }
    }

    fn syntax(&self, at: usize, what: impl Into<String>) -> XmlError {
        XmlError::Syntax {
            place: self.place(at),
            what: what.into(),
        }
    }

    fn tree(&self) -> Result<Element, XmlError> {
        let mut reader = Reader::from_str(self.text);
        let mut open: Vec<Element> = Vec::new();
        let mut root = None;
        let mut elements = 0;
        loop {
            let at = offset(reader.buffer_position());
            let event = reader
                .read_event()
                .map_err(|error| self.syntax(offset(reader.error_position()), error.to_string()))?;
            let empty = matches!(event, Event::Empty(_));
            match event {
                Event::Start(start) | Event::Empty(start) => {
                    elements += 1;
                    if elements > MOST_ELEMENTS {
                        return Err(XmlError::Many {
                            place: self.place(at),
                            most: MOST_ELEMENTS,
                            what: "elements",
                        });
                    }
                    if root.is_some() {
                        return Err(self.syntax(at, "there is a second element beside the first"));
                    }
                    if open.len() >= MOST_DEEP {
                        return Err(XmlError::Deep(self.place(at)));
                    }
                    open.push(self.element(at, &start)?);
                    if empty {
                        close(&mut open, &mut root);
                    }
                }
                Event::End(_) => close(&mut open, &mut root),
                Event::Text(text) => self.text(at, &text, &mut open)?,
                Event::CData(text) => match open.last_mut() {
                    Some(element) => element.text.push_str(&text),
                    None => return Err(self.syntax(at, "there is text outside of the element")),
                },
                Event::GeneralRef(name) => {
                    let character = self.reference(at, &name)?;
                    self.text(at, character.encode_utf8(&mut [0; 4]), &mut open)?;
                }
                Event::DocType(_) => return Err(XmlError::Doctype(self.place(at))),
                Event::Decl(declaration) => {
                    let encoding = declaration.encoding().and_then(Result::ok);
                    let named = encoding.as_deref().unwrap_or("utf-8");
                    if !named.eq_ignore_ascii_case("utf-8") {
                        return Err(XmlError::Encoding {
                            place: self.place(at),
                            encoding: named.to_owned(),
                        });
                    }
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        if let Some(element) = open.last() {
            return Err(XmlError::Syntax {
                place: element.place,
                what: format!("<{}> has no end", element.name),
            });
        }
        root.ok_or(XmlError::Empty)
    }

    fn text(&self, at: usize, text: &str, open: &mut [Element]) -> Result<(), XmlError> {
        match open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(self.syntax(at, "there is text outside of the element")),
        }
        Ok(())
    }

    fn element(&self, at: usize, start: &BytesStart<'_>) -> Result<Element, XmlError> {
        let name = start.name().into_inner().to_owned();
        self.check_name(at, &name)?;
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| self.syntax(at, error.to_string()))?;
            let key = attribute.key.into_inner();
            // The event borrows from the text, so that addresses tell the place.
            let inside = (key.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
            let place = inside
                .filter(|inside| *inside <= self.text.len())
                .unwrap_or(at);
            self.check_name(place, key)?;
            if attributes.len() == MOST_ATTRIBUTES {
                return Err(XmlError::Many {
                    place: self.place(place),
                    most: MOST_ATTRIBUTES,
                    what: "attributes of one element",
                });
            }
            attributes.push(Attribute {
                name: key.to_owned(),
                value: self.value(place, &attribute.value)?,
                place: self.place(place),
            });
        }
        Ok(Element {
            name,
            place: self.place(at),
            attributes,
            ..Element::default()
        })
    }

    fn check_name(&self, at: usize, name: &str) -> Result<(), XmlError> {
        let first = name
            .chars()
            .next()
            .is_some_and(|c| c.is_alphabetic() || c == '_');
        let rest = name
            .chars()
            .all(|c| c.is_alphanumeric() || "_:.-".contains(c));
        if first && rest && name.len() <= LONGEST_NAME {
            Ok(())
        } else {
            let shown: String = name.chars().take(40).collect();
            Err(self.syntax(at, format!("{shown:?} is not a name")))
        }
    }

    /// Resolves what is escaped in an attribute's value; white space becomes spaces.
    fn value(&self, at: usize, raw: &str) -> Result<String, XmlError> {
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once('&') {
            value.push_str(&spaced(before));
            let (name, after) = after
                .split_once(';')
                .ok_or_else(|| self.syntax(at, "'&' is written &amp;"))?;
            value.push(self.reference(at, name)?);
            rest = after;
        }
        if raw.contains('<') {
            return Err(self.syntax(at, "'<' in a value is written &lt;"));
        }
        value.push_str(&spaced(rest));
        Ok(value)
    }

    /// Resolves one of XML's own five entities, or a character by its number.
    fn reference(&self, at: usize, name: &str) -> Result<char, XmlError> {
        let place = self.place(at);
        if let Some(number) = name.strip_prefix('#') {
            let parsed = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            let character = parsed.ok().and_then(char::from_u32);
            let Some(character) = character.filter(|_| !number.contains('+')) else {
                return Err(self.syntax(at, "a character's number is not one"));
            };
            return if is_xml(character) {
                Ok(character)
            } else {
                Err(XmlError::Character { place, character })
            };
        }
        match name {
            "amp" => Ok('&'),
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            _ => Err(XmlError::Entity {
                place,
                name: name.chars().take(40).collect(),
            }),
        }
    }
}

/// Ends the innermost open element.
fn close(open: &mut Vec<Element>, root: &mut Option<Element>) {
    let Some(element) = open.pop() else { return };
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn spaced(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn every_part_knows_its_line_and_column() {
        let root = read("<?xml version='1.0' encoding='UTF-8'?>\n<a>\n  <b c='1'\n     d=\"&lt;&#x41;\"/>t\u{e4}<!-- -->&amp;<![CDATA[<x>]]>\n</a>")
            .expect("well-formed");
        assert_eq!(root.place, Place { line: 2, column: 1 });
        assert_eq!(root.text.trim(), "t\u{e4}&<x>");
        let b = &root.children[0];
        assert_eq!(b.place, Place { line: 3, column: 3 });
        assert_eq!(b.attributes[1].place, Place { line: 4, column: 6 });
        assert_eq!(b.attribute("d"), Some("<A"));
    }

    #[test]
    fn a_bomb_of_entities_is_refused_at_its_first_line() {
        let bomb = "<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]>\n<lolz>&lol2;</lolz>";
        assert_eq!(
            error(bomb),
            "line 1, column 1: document types (<!DOCTYPE>) are not read: leave it out"
        );
        let file = "<!DOCTYPE a [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><a>&f;</a>";
        assert!(error(file).contains("document types"));
        assert!(error("<a>&f;</a>").contains("the entity &f; is not known"));
        assert!(error("<a b='&f;'/>").contains("the entity &f; is not known"));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(error(&" ".repeat(MOST_BYTES + 1)).contains("more than the 1048576"));
        assert!(error(&"<a>".repeat(40)).contains("nested more than 32 deep"));
        assert!(error(&format!("<a>{}</a>", "<b/>".repeat(20_000))).contains("20000 elements"));
        let many: String = (0..65).map(|n| format!(" a{n}='1'")).collect();
        assert!(error(&format!("<a{many}/>")).contains("64 attributes"));
        assert!(error(&format!("<{}/>", "a".repeat(200))).contains("is not a name"));
    }

    #[test]
    fn what_is_not_well_formed_is_told_with_its_line() {
        for (text, part) in [
            ("", "no element"),
            ("text", "outside of the element"),
            ("<a>\n<b></a>", "line 2"),
            ("<a>\n", "<a> has no end"),
            ("<a/><b/>", "a second element"),
            ("<a/>text", "outside of the element"),
            ("<a b='1' b='2'/>", "duplicated"),
            ("<a b=1/>", "line 1"),
            ("<a b='<'/>", "&lt;"),
            ("<a b='&'/>", "&amp;"),
            ("<a>&#0;</a>", "cannot stand in XML"),
            ("<a>&#xd800;</a>", "is not one"),
            ("<a>\u{1}</a>", "cannot stand in XML"),
            ("<1/>", "is not a name"),
            (
                "<?xml version='1.0' encoding='latin1'?><a/>",
                "convert the document",
            ),
        ] {
            let told = error(text);
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    #[test]
    fn windows_ends_of_lines_are_ends_of_lines() {
        let root = read("\u{feff}<a>\r\n<b/>\r\n</a>").expect("well-formed");
        assert_eq!(root.children[0].place, Place { line: 2, column: 1 });
        assert_eq!(root.text, "\n\n");
    }
}
