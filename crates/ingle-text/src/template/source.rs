//! What happens to a template's text before it is compiled.
//!
//! A walk over its tags, without parsing expressions, does three things: it bounds the tokens of a tag, as the parser
//! recurses over them; it turns the `generation` tag of the Hugging Face library, which only marks text, into one that
//! does nothing; and it wraps what is assigned to the attribute of a namespace, the only place where a loop can build
//! values that grow deeper with every turn or contain themselves.

use super::limits::TAG_TOKENS;
use crate::error::{Error, Result};

/// The function that looks at values assigned to namespaces.
pub(crate) const KEEP: &str = "__keep";

/// The text to compile.
pub(crate) fn prepare(source: &str) -> Result<String> {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let tag = &rest[at..];
        if !matches!(tag.as_bytes().get(1), Some(b'%' | b'{' | b'#')) {
            out.push_str(&rest[..at + 1]);
            rest = &rest[at + 1..];
            continue;
        }
        out.push_str(&rest[..at]);
        let length = match tag.as_bytes().get(1) {
            Some(b'#') => comment(tag),
            Some(b'%') => {
                let length = bounded(tag_length(tag, "%}"), source, tag)?;
                match raw(tag, length) {
                    Some(end) => end,
                    None => {
                        statement(&tag[..length], &mut out);
                        rest = &tag[length..];
                        continue;
                    }
                }
            }
            _ => bounded(tag_length(tag, "}}"), source, tag)?,
        };
        out.push_str(&tag[..length]);
        rest = &tag[length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The length of a tag that has one; `tag` is the end of `source`.
fn bounded(length: Option<usize>, source: &str, tag: &str) -> Result<usize> {
    length.ok_or_else(|| Error::TemplateSyntax {
        line: source[..source.len() - tag.len()].matches('\n').count() + 1,
        message: format!("a tag of more than {TAG_TOKENS} tokens"),
    })
}

fn comment(tag: &str) -> usize {
    tag[2..].find("#}").map_or(tag.len(), |end| end + 4)
}

/// The length of a tag up to and with `end`, which does not count inside text literals and, as the engine does it,
/// inside braces. A tag that does not end is left to the compiler, which says so. `None` when it has too many tokens.
fn tag_length(tag: &str, end: &str) -> Option<usize> {
    let bytes = tag.as_bytes();
    let (mut at, mut tokens, mut depth) = (2, 0usize, 0usize);
    while let Some(&byte) = bytes.get(at) {
        if depth == 0 && bytes[at..].starts_with(end.as_bytes()) {
            return Some(at + end.len());
        }
        tokens += 1;
        if tokens > TAG_TOKENS {
            return None;
        }
        match byte {
            b'"' | b'\'' => {
                at += 1;
                while let Some(&inner) = bytes.get(at) {
                    at += 1;
                    match inner {
                        b'\\' => at += 1,
                        _ if inner == byte => break,
                        _ => {}
                    }
                }
            }
            _ if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                while bytes.get(at).is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80) {
                    at += 1;
                }
            }
            _ if byte.is_ascii_whitespace() => {
                tokens -= 1;
                at += 1;
            }
            b'{' | b'[' | b'(' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    Some(tag.len())
}

/// The word that says what kind of statement a tag is, and what follows it.
fn keyword(tag: &str) -> (&str, &str) {
    let inner = tag.trim_start_matches("{%");
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    inner.split_at(end)
}

/// The end of a raw block whose first tag has this length: nothing inside it is a tag.
fn raw(tag: &str, length: usize) -> Option<usize> {
    if keyword(&tag[..length]).0 != "raw" {
        return None;
    }
    let mut at = length;
    while let Some(found) = tag[at..].find("{%") {
        at += found;
        if keyword(&tag[at..]).0 == "endraw" {
            return Some(tag[at..].find("%}").map_or(tag.len(), |end| at + end + 2));
        }
        at += 2;
    }
    Some(tag.len())
}

/// Writes a statement tag, changed where it must be.
fn statement(tag: &str, out: &mut String) {
    let (word, rest) = keyword(tag);
    let before = &tag[..tag.len() - rest.len() - word.len()];
    match word {
        "generation" | "endgeneration" => {
            out.push_str(before);
            out.push_str(if word == "generation" { "with" } else { "endwith" });
            out.push_str(rest);
        }
        "set" => match assignment(rest) {
            Some((target, value, end)) => {
                out.push_str(before);
                out.push_str(word);
                out.push_str(target);
                out.push_str(&format!("= {KEEP}(("));
                out.push_str(value);
                out.push_str("))");
                out.push_str(end);
            }
            None => out.push_str(tag),
        },
        _ => out.push_str(tag),
    }
}

/// Splits ` ns.a = value %}` into target, value and end; `None` when nothing is assigned or not to an attribute.
fn assignment(rest: &str) -> Option<(&str, &str, &str)> {
    let equals = rest.find('=')?;
    let (target, value) = (&rest[..equals], &rest[equals + 1..]);
    let only_names = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
    if !target.contains('.') || !target.chars().all(only_names) {
        return None;
    }
    let end = value.strip_suffix("%}")?;
    let end = end.strip_suffix(['-', '+']).unwrap_or(end);
    Some((target, end, &value[end.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(source: &str) -> String {
        prepare(source).unwrap()
    }

    #[test]
    fn ordinary_templates_are_left_alone() {
        for source in [
            "",
            "plain } %} text {",
            "{{ '%}' }}{% if a == '}}' %}x{% endif %}{# {% set n.x = 1 %} #}",
            "{% set x = y.z %}{% set n.x %}block{% endset %}{{ {'a': {'b': 1}} }}",
            "{% raw %}{% set n.x = 1 %}{{ {% endraw %}{{ x }}",
            "{{ \"it's \\\" %}\" }}",
            "{% set x",
            "{{ 'open",
            "{#",
        ] {
            assert_eq!(prepared(source), source);
        }
    }

    #[test]
    fn attributes_are_only_set_through_the_check() {
        assert_eq!(prepared("{%- set ns.x = a, '=' -%}"), "{%- set ns.x = __keep(( a, '=' ))-%}");
        assert_eq!(prepared("{% set ns.x=[1]%}"), "{% set ns.x= __keep(([1]))%}");
    }

    #[test]
    fn generation_marks_nothing() {
        assert_eq!(prepared("{%- generation -%}a{% endgeneration %}"), "{%- with -%}a{% endwith %}");
    }

    #[test]
    fn a_tag_has_a_bounded_number_of_tokens() {
        let long = format!("\n\n{{{{ {}1 }}}}", "1+".repeat(TAG_TOKENS));
        assert!(matches!(prepare(&long), Err(Error::TemplateSyntax { line: 3, .. })));
        let text = format!("{{{{ '{}' }}}}", "1+".repeat(TAG_TOKENS));
        assert_eq!(prepared(&text), text);
    }
}
