//! Which of the known words was meant?

/// The choice closest to `word`, if it is close enough to be a slip: a third of its letters
/// wrong or swapped, or one the beginning of the other.
pub(crate) fn nearest<'c>(
    word: &str,
    choices: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    if word.is_empty() || word.len() > WORD_MAX {
        return None;
    }
    choices
        .into_iter()
        .filter_map(|choice| {
            let letters: Vec<char> = choice.chars().flat_map(char::to_lowercase).collect();
            let distance = distance(&word, &letters);
            let slip = distance <= (letters.len().max(word.len()) / 3).max(1);
            let beginning = word.len().min(letters.len()) >= 3
                && (letters.starts_with(&word) || word.starts_with(&letters));
            (slip || beginning).then_some((distance, choice))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

/// Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// No key is this long; the work is bounded by it.
const WORD_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let keys = ["idle", "close_grace", "write_stall", "message_from_client"];
        assert_eq!(nearest("idel", keys), Some("idle"));
        assert_eq!(nearest("closeGrace", keys), Some("close_grace"));
        assert_eq!(nearest("message_from_clients", keys), Some("message_from_client"));
        assert_eq!(nearest("cert", ["certificate", "caps"]), Some("certificate"));
    }

    #[test]
    fn strangers_are_not() {
        assert_eq!(nearest("interval", ["idle", "close_grace"]), None);
        assert_eq!(nearest("", ["idle"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["idle"]), None);
    }
}
