//! Notes that wait for the log writer, and what becomes of them while it cannot write. Pure: notes in, notes out.

use std::collections::VecDeque;

use super::{Note, Noted};

/// At most so many wait.
const NOTES_MAX: usize = 64;
/// From so many on, what was typed in one place becomes one note.
const MANY: usize = NOTES_MAX / 2;
/// Bytes of such a note.
const TYPED_MAX: usize = 4096;

/// The notes that wait. The first may be on its way to the disk, and is not touched.
#[derive(Debug, Default)]
pub(super) struct Notes(VecDeque<Note>);

impl Notes {
    /// One more. At the limit, while a disk hangs, older ones are given up for it, and counted. What is said also stands in the
    /// journal; what is typed stands nowhere else.
    pub(super) fn push(&mut self, note: Note) {
        if self.0.len() >= MANY && self.joins_the_last(&note) {
            return;
        }
        if self.0.len() == NOTES_MAX {
            self.make_room();
        }
        self.0.push_back(note);
    }

    /// These were written once and are to be written again, before all others; as far as there is room.
    pub(super) fn again(&mut self, notes: Vec<Note>) {
        for note in notes.into_iter().rev() {
            self.0.push_front(note);
        }
        while self.0.len() > NOTES_MAX {
            self.make_room();
        }
    }

    /// The one to be written next.
    pub(super) fn first(&self) -> Option<&Note> {
        self.0.front()
    }

    /// `note` is written, if it is still the first.
    pub(super) fn written(&mut self, note: &Note) {
        if self.first() == Some(note) {
            self.0.pop_front();
        }
    }

    fn joins_the_last(&mut self, note: &Note) -> bool {
        let (Noted::Typed(more), Some(last)) = (&note.what, self.0.back_mut()) else { return false };
        match &mut last.what {
            Noted::Typed(bytes) if last.offset == note.offset && bytes.len() + more.len() <= TYPED_MAX => {
                bytes.extend_from_slice(more);
                true
            }
            _ => false,
        }
    }

    /// Has the second one stand for the third as well.
    fn make_room(&mut self) {
        let Some(third) = self.0.remove(2) else { return };
        let Some(second) = self.0.get_mut(1) else { return };
        let (notes, typed) =
            (size(&second.what).0 + size(&third.what).0, size(&second.what).1 + size(&third.what).1);
        second.what = Noted::Lost { notes, typed };
    }
}

/// How many notes one stands for, and how many typed bytes.
fn size(what: &Noted) -> (u64, u64) {
    match what {
        Noted::Said(_) => (1, 0),
        Noted::Typed(bytes) => (1, bytes.len() as u64),
        Noted::Lost { notes, typed } => (*notes, *typed),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn note(offset: u64, what: Noted) -> Note {
        Note { offset, at: Timestamp::UNIX_EPOCH, what }
    }

    fn typed(text: &str) -> Noted {
        Noted::Typed(text.as_bytes().to_vec())
    }

    fn all(mut notes: Notes) -> Vec<Noted> {
        let mut all = Vec::new();
        while let Some(first) = notes.first().cloned() {
            notes.written(&first);
            all.push(first.what);
        }
        all
    }

    #[test]
    fn what_is_given_up_is_counted_and_the_first_stays() {
        let mut notes = Notes::default();
        for number in 0..100 {
            notes.push(note(number, typed("12345")));
        }
        let all = all(notes);
        assert_eq!(all.len(), NOTES_MAX);
        assert_eq!(all[0], typed("12345"));
        assert_eq!(all[1], Noted::Lost { notes: 37, typed: 185 });
        assert_eq!(all[2..], vec![typed("12345"); 62]);
    }

    #[test]
    fn what_is_to_be_written_again_comes_first() {
        let mut notes = Notes::default();
        notes.push(note(9, typed("new")));
        notes.again(vec![note(3, typed("one")), note(4, typed("two"))]);
        assert_eq!(all(notes), [typed("one"), typed("two"), typed("new")]);
        let mut notes = Notes::default();
        notes.again(vec![note(3, typed("one")); 100]);
        assert_eq!(all(notes).len(), NOTES_MAX);
    }

    #[test]
    fn what_is_typed_in_one_place_is_kept_together_once_there_is_much_of_it() {
        let mut notes = Notes::default();
        for _ in 0..1000 {
            notes.push(note(7, typed("12345")));
        }
        let all = all(notes);
        let bytes: usize = all.iter().map(|what| size(what).1 as usize).sum();
        assert_eq!(bytes, 5000);
        assert!(all.len() <= MANY + 2, "{}", all.len());
        assert!(all.iter().all(|what| matches!(what, Noted::Typed(_))));
    }
}
