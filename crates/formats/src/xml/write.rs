//! Writing, as libvirt does: two spaces for each level, single quotes.

use std::fmt::{self, Write as _};

use super::Element;

impl fmt::Display for Element {
    /// Writes the element and all in it, one line each, with an end of line
    /// after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(self, 0, f)
    }
}

fn write(element: &Element, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let indent = depth * 2;
    write!(f, "{:indent$}<{}", "", element.name)?;
    for attribute in &element.attributes {
        write!(f, " {}='", attribute.name)?;
        escape(&attribute.value, true, f)?;
        f.write_char('\'')?;
    }
    if element.children.is_empty() && element.text.is_empty() {
        return f.write_str("/>\n");
    }
    f.write_char('>')?;
    escape(&element.text, false, f)?;
    if !element.children.is_empty() {
        f.write_char('\n')?;
        for child in &element.children {
            write(child, depth + 1, f)?;
        }
        write!(f, "{:indent$}", "")?;
    }
    writeln!(f, "</{}>", element.name)
}

fn escape(text: &str, value: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for c in text.chars() {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '\'' if value => f.write_str("&apos;")?,
            // A reader takes these for white space or for another end of line.
            '\r' => f.write_str("&#13;")?,
            '\n' if value => f.write_str("&#10;")?,
            '\t' if value => f.write_str("&#9;")?,
            c => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_looks_like_libvirts() {
        let text = "<a b='1'>\n  <c/>\n  <d>x &amp; y</d>\n</a>\n";
        let root = Element::new("a")
            .with("b", 1)
            .and([Element::new("c"), Element::new("d").holding("x & y")]);
        assert_eq!(root.to_string(), text);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(text in "[ -~\t\n\r\u{80}-\u{d7ff}\u{10000}-\u{10ffff}]{0,60}") {
            let root = Element::new("a").with("b", &text).holding(&text);
            let back = read(&root.to_string()).expect("well-formed");
            prop_assert_eq!(back.attribute("b"), Some(text.as_str()));
            prop_assert_eq!(back.text, text);
        }

        #[test]
        fn no_text_harms_the_reader(text in "[<>/?!a-c='\"&;#\\[\\]x0-9 \n-]{0,80}") {
            if let Ok(root) = read(&text) {
                let again = read(&root.to_string()).expect("what is written is well-formed");
                prop_assert_eq!(again.children.len(), root.children.len());
            }
        }
    }
}
