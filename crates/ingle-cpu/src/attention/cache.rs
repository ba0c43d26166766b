//! Keys and values of one layer of one sequence, in integers, in pages of 64 positions that are added as a sequence
//! grows.
//!
//! A row, one head's key or value of one position, is kept as integers and a scale, a bfloat16. They are 16-bit
//! integers, as exact as 16-bit floats (and, unlike those, multiplied two at a time), or products of a signed byte, or of
//! 4 bits, and a factor that 32 components share, another byte. A page keeps for each KV head, one after the other:
//!
//! ```text
//! keys           [key dim / 2][64][2]      two neighbouring components of a position side by side
//! key factors    [key dim / 32][64]        8-bit and 4-bit pages only
//! values         [32][value dim][2]        a component of two neighbouring positions side by side
//! value factors  [value dim / 32][64]      8-bit and 4-bit pages only
//! scales         [2][64]                   of keys, of values
//! ```
//!
//! (in 4 bits, what lies side by side shares a byte, the first in its lower half, 8 added to each)
//! so that one vector holds two components of many positions, or two positions of many components, and nothing is
//! summed across lanes (see `kernels::cached`).
//!
//! Where a layer sees only a window, pages wholly before it are taken for the positions to come: a sequence of any
//! length holds its window, [`SLACK`] positions before it, the rows of the step, and what fills up the pages at both
//! ends. It can go back as far as the pages it holds still cover a whole window.
//!
//! Sequences that begin alike share pages: a sequence that writes into a page of several copies it first.
#![allow(unsafe_code)] // bytes of a page are read as numbers; threads write heads of their own

use crate::Cpu;
use crate::buffer::{Buffer, OutOfMemory};
use crate::kernels::{CACHE_BLOCK, Kernels, PAGE, RowLimits};
use crate::pool::Shares;
use crate::saved;
use half::{bf16, f16};
use ingle_model::spec::KvFormat;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Positions kept before a window, so that a sequence can take some tokens back without starting anew.
pub(crate) const SLACK: usize = 64;
/// Rows of a head that make waking other threads worth it.
const MANY_ROWS: usize = 64;

/// Sizes of a layer's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub(crate) kv_heads: usize,
    pub(crate) key_dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) format: KvFormat,
}

/// Where the numbers of one head begin in its part of a page, in bytes; keys begin it.
struct Places {
    key_factors: usize,
    values: usize,
    value_factors: usize,
    scales: usize,
    end: usize,
}

impl CacheShape {
    /// Components of a key as they are kept: an even number.
    pub(crate) fn key_width(&self) -> usize {
        self.key_dim.next_multiple_of(2)
    }

    fn places(&self) -> Places {
        let sizes = |width: usize| match self.format {
            KvFormat::Bits16 => (width * size_of::<i16>() * PAGE, 0),
            KvFormat::Bits8 => (width * PAGE, width.div_ceil(CACHE_BLOCK) * PAGE),
            KvFormat::Bits4 => (width * PAGE / 2, width.div_ceil(CACHE_BLOCK) * PAGE),
        };
        let ((keys, key_factors), (values, value_factors)) = (sizes(self.key_width()), sizes(self.value_dim));
        let scales = keys + key_factors + values + value_factors;
        Places {
            key_factors: keys,
            values: keys + key_factors,
            value_factors: keys + key_factors + values,
            scales,
            end: scales + 2 * PAGE * size_of::<bf16>(),
        }
    }

    fn page_bytes(&self) -> usize {
        self.kv_heads * self.places().end
    }

    /// Stores rows of one head in its part of a page, from position `slot` on.
    fn fill(&self, kernels: &Kernels, part: &mut [u8], slot: usize, rows: Rows, row: &mut Row) {
        let CacheShape { key_dim, value_dim, .. } = *self;
        let scales_at = self.places().scales;
        let width = self.key_width().max(value_dim);
        row.words.resize(width, 0);
        row.bytes.resize(width, 0);
        row.factors.resize(width.div_ceil(CACHE_BLOCK), 0);
        for at in 0..rows.count {
            let key = &rows.keys[(at * rows.kv_heads + rows.head) * key_dim..][..key_dim];
            let value = &rows.values[(at * rows.kv_heads + rows.head) * value_dim..][..value_dim];
            let scales = match self.format {
                KvFormat::Bits16 => self.put_words(kernels, part, slot + at, key, value, &mut row.words),
                KvFormat::Bits8 => self.put_bytes(kernels, part, slot + at, key, value, row),
                KvFormat::Bits4 => self.put_nibbles(kernels, part, slot + at, key, value, row),
            };
            for (of, scale) in scales.into_iter().enumerate() {
                let place = scales_at + (of * PAGE + slot + at) * size_of::<bf16>();
                part[place..place + 2].copy_from_slice(&bf16::from_f32(scale).to_ne_bytes());
            }
        }
    }

    /// A key and a value in 16 bits; returns their scales.
    fn put_words(
        &self,
        kernels: &Kernels,
        part: &mut [u8],
        slot: usize,
        key: &[f32],
        value: &[f32],
        row: &mut [i16],
    ) -> [f32; 2] {
        let (keys, values) = words_mut(part).split_at_mut(self.places().values / size_of::<i16>());
        let key_row = &mut row[..self.key_width()];
        key_row[key.len()..].fill(0);
        let key_scale = kernels.to_words(key, RowLimits::KEY, &mut key_row[..key.len()]);
        for (two, column) in key_row.chunks_exact(2).zip(keys.chunks_exact_mut(2 * PAGE)) {
            column[2 * slot..2 * slot + 2].copy_from_slice(two);
        }
        let value_row = &mut row[..value.len()];
        let value_scale = kernels.to_words(value, RowLimits::VALUE, value_row);
        let places = values[slot / 2 * value.len() * 2..].chunks_exact_mut(2);
        places.zip(value_row).for_each(|(place, word)| place[slot % 2] = *word);
        [key_scale, value_scale]
    }

    /// A key and a value in 8 bits; returns their scales.
    fn put_bytes(
        &self,
        kernels: &Kernels,
        part: &mut [u8],
        slot: usize,
        key: &[f32],
        value: &[f32],
        row: &mut Row,
    ) -> [f32; 2] {
        let Places { key_factors, values, value_factors, .. } = self.places();
        let (key_row, factors) = (&mut row.bytes[..self.key_width()], &mut row.factors[..blocks(key.len())]);
        key_row[key.len()..].fill(0);
        let key_scale = kernels.to_bytes(key, RowLimits::KEY_8, &mut key_row[..key.len()], factors);
        for (two, column) in key_row.chunks_exact(2).zip(part.chunks_exact_mut(2 * PAGE)) {
            (column[2 * slot], column[2 * slot + 1]) = (two[0] as u8, two[1] as u8);
        }
        put_factors(&mut part[key_factors + slot..], factors);
        let (value_row, factors) = (&mut row.bytes[..value.len()], &mut row.factors[..blocks(value.len())]);
        let value_scale = kernels.to_bytes(value, RowLimits::VALUE_8, value_row, factors);
        let places = part[values + slot / 2 * value.len() * 2..].chunks_exact_mut(2);
        places.zip(value_row).for_each(|(place, byte)| place[slot % 2] = *byte as u8);
        put_factors(&mut part[value_factors + slot..], factors);
        [key_scale, value_scale]
    }

    /// A key and a value in 4 bits; returns their scales.
    fn put_nibbles(
        &self,
        kernels: &Kernels,
        part: &mut [u8],
        slot: usize,
        key: &[f32],
        value: &[f32],
        row: &mut Row,
    ) -> [f32; 2] {
        let Places { key_factors, values, value_factors, .. } = self.places();
        let nibble = |number: i8| number.wrapping_add(8) as u8 & 15;
        let (key_row, factors) = (&mut row.bytes[..self.key_width()], &mut row.factors[..blocks(key.len())]);
        key_row[key.len()..].fill(0);
        let key_scale = kernels.to_bytes(key, RowLimits::KEY_4, &mut key_row[..key.len()], factors);
        for (two, column) in key_row.chunks_exact(2).zip(part.chunks_exact_mut(PAGE)) {
            column[slot] = nibble(two[0]) | nibble(two[1]) << 4;
        }
        put_factors(&mut part[key_factors + slot..], factors);
        let (value_row, factors) = (&mut row.bytes[..value.len()], &mut row.factors[..blocks(value.len())]);
        let value_scale = kernels.to_bytes(value, RowLimits::VALUE_4, value_row, factors);
        // the position beside it keeps its half
        let (shift, other) = if slot.is_multiple_of(2) { (0, 0xf0) } else { (4, 0x0f) };
        for (place, number) in part[values + slot / 2 * value.len()..].iter_mut().zip(value_row) {
            *place = *place & other | nibble(*number) << shift;
        }
        put_factors(&mut part[value_factors + slot..], factors);
        [key_scale, value_scale]
    }
}

/// Factors of a row of so many components.
fn blocks(width: usize) -> usize {
    width.div_ceil(CACHE_BLOCK)
}

/// Puts the factors of a row where those of its first block begin.
fn put_factors(part: &mut [u8], factors: &[u8]) {
    let places = part.iter_mut().step_by(PAGE);
    places.zip(factors).for_each(|(place, factor)| *place = *factor);
}

/// Rows of one KV head, among those of all heads.
#[derive(Clone, Copy)]
struct Rows<'a> {
    head: usize,
    kv_heads: usize,
    count: usize,
    /// `[count, kv_heads, key dim]`
    keys: &'a [f32],
    /// `[count, kv_heads, value dim]`
    values: &'a [f32],
}

/// Memory for one row as integers.
#[derive(Default)]
struct Row {
    words: Vec<i16>,
    bytes: Vec<i8>,
    factors: Vec<u8>,
}

thread_local! {
    static ROW: RefCell<Row> = RefCell::default();
}

/// One KV head's rows of a page.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    bytes: &'a [u8],
    shape: CacheShape,
}

impl<'a> Part<'a> {
    /// Keys `[key width / 2][64][2]`, widened into `wide` if they are in 8 or 4 bits. Brings the values into the cache.
    pub(super) fn keys<'b>(&self, kernels: &Kernels, wide: &'b mut [i16]) -> (&'b [i16], &'a [u8])
    where
        'a: 'b,
    {
        let Places { key_factors, values, scales, .. } = self.shape.places();
        let (keys, ahead) = (&self.bytes[..key_factors], &self.bytes[values..scales]);
        match self.shape.format {
            KvFormat::Bits16 => (words(keys), ahead),
            KvFormat::Bits8 => {
                let wide = &mut wide[..keys.len()];
                kernels.widen_keys(signed(keys), &self.bytes[key_factors..values], ahead, wide);
                (wide, &[])
            }
            KvFormat::Bits4 => {
                let wide = &mut wide[..2 * keys.len()];
                kernels.widen_key_nibbles(keys, &self.bytes[key_factors..values], ahead, wide);
                (wide, &[])
            }
        }
    }

    /// Values `[32][value dim][2]` of the first `positions`, widened into `wide` if they are in 8 or 4 bits, and what is left
    /// of bringing `next`, the part after this one, into the cache.
    pub(super) fn values<'b>(
        &self,
        kernels: &Kernels,
        positions: usize,
        next: Option<Part<'a>>,
        wide: &'b mut [i16],
    ) -> (&'b [i16], &'a [u8])
    where
        'a: 'b,
    {
        let Places { values, value_factors, scales, .. } = self.shape.places();
        let rows = &self.bytes[values..value_factors];
        let ahead = next.map_or(&[][..], |next| &next.bytes[..values]);
        match self.shape.format {
            KvFormat::Bits16 => (words(rows), ahead),
            KvFormat::Bits8 => {
                let wide = &mut wide[..rows.len()];
                kernels.widen_values(
                    signed(rows),
                    &self.bytes[value_factors..scales],
                    positions,
                    ahead,
                    wide,
                );
                (wide, &[])
            }
            KvFormat::Bits4 => {
                let wide = &mut wide[..2 * rows.len()];
                let factors = &self.bytes[value_factors..scales];
                kernels.widen_value_nibbles(rows, factors, positions, ahead, wide);
                (wide, &[])
            }
        }
    }

    /// Scales of keys and of values.
    pub(super) fn scales(&self) -> (&'a [bf16; PAGE], &'a [bf16; PAGE]) {
        // SAFETY: every bit pattern is a bfloat16; parts of a page are aligned.
        let scales = unsafe { self.bytes[self.shape.places().scales..].align_to::<[bf16; PAGE]>().1 };
        (&scales[0], &scales[1])
    }
}

/// Bytes as 16-bit integers.
fn words(bytes: &[u8]) -> &[i16] {
    // SAFETY: every bit pattern is an integer; `align_to` splits off what is not aligned (nothing: buffers are aligned).
    unsafe { bytes.align_to::<i16>().1 }
}

/// Bytes as 16-bit integers, to change.
fn words_mut(bytes: &mut [u8]) -> &mut [i16] {
    // SAFETY: as in `words`.
    unsafe { bytes.align_to_mut::<i16>().1 }
}

/// Bytes as signed ones.
fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: every bit pattern is an integer.
    unsafe { bytes.align_to::<i8>().1 }
}

/// A layer's pages. A clone shares them.
#[derive(Clone, Debug)]
pub(crate) struct LayerKv {
    pub(crate) shape: CacheShape,
    /// Positions that a row sees, itself included; `None` is all before it.
    window: Option<usize>,
    /// Number of the first page held: those before it are forgotten.
    first: usize,
    pages: VecDeque<Arc<Buffer>>,
}

impl LayerKv {
    pub(crate) fn new(shape: CacheShape, window: Option<usize>) -> LayerKv {
        LayerKv { shape, window, first: 0, pages: VecDeque::new() }
    }

    /// Makes room for a step that fills `positions`, and forgets what neither it nor a step after it will see.
    pub(crate) fn grow(&mut self, positions: Range<usize>) -> Result<(), OutOfMemory> {
        let seen = self.seen_from(positions.start);
        let wanted = seen.saturating_sub(SLACK) / PAGE..positions.end.div_ceil(PAGE);
        while self.first + self.pages.len() < wanted.end {
            // a page that is no longer wanted becomes the next one
            let old = if self.first < wanted.start { self.pages.pop_front() } else { None };
            self.first += usize::from(old.is_some());
            // one that others hold too is left to them
            let page = match old.filter(|page| Arc::strong_count(page) == 1) {
                Some(page) => page,
                None => Arc::new(Buffer::zeroed(self.shape.page_bytes())?),
            };
            self.pages.push_back(page);
        }
        let written = (positions.start / PAGE).saturating_sub(self.first);
        for page in self.pages.iter_mut().skip(written) {
            own(page)?;
        }
        // what a long step needed is given back; what steps of one row come to need stays, for the next positions
        let steady = self.window.map_or(0, |window| window.saturating_add(SLACK + PAGE - 2) / PAGE + 1);
        while self.first < wanted.start && self.pages.len() > steady && self.pages.pop_front().is_some() {
            self.first += 1;
        }
        Ok(())
    }

    /// The longest length, at most `positions`, whose next row finds all that it sees: 0 where pages of its window are
    /// gone.
    pub(crate) fn earlier(&self, positions: usize) -> usize {
        if self.seen_from(positions) >= self.first * PAGE { positions } else { 0 }
    }

    /// Forgets the positions from `positions` on, which [`earlier`](Self::earlier) has allowed.
    pub(crate) fn shrink(&mut self, positions: usize) {
        self.pages.truncate(positions.div_ceil(PAGE).saturating_sub(self.first));
        if self.pages.is_empty() {
            self.first = positions / PAGE;
        }
    }

    /// The first position that a row at `position` sees.
    fn seen_from(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The pages it holds.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &Arc<Buffer>> {
        self.pages.iter()
    }

    /// Writes down the pages, whatever is in them.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        saved::put(to, &self.kind())?;
        saved::put(to, &[self.first as u64])?;
        self.pages.iter().try_for_each(|page| saved::put_page(to, page))
    }

    /// Takes the place of this empty cache with what was written of one of `length` positions.
    pub(crate) fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
        saved::expect(from, &self.kind())?;
        let end = length.div_ceil(PAGE);
        let mut read =
            LayerKv { first: saved::take_count(from, end)?, ..LayerKv::new(self.shape, self.window) };
        if read.earlier(length) != length {
            return Err(saved::other());
        }
        for _ in read.first..end {
            read.pages.push_back(saved::take_page(from, self.shape.page_bytes())?);
        }
        *self = read;
        Ok(())
    }

    /// What has to be the same where it is read.
    fn kind(&self) -> [u64; 3] {
        let window = self.window.map_or(u64::MAX, |window| window as u64);
        [saved::ATTENTION, self.shape.page_bytes() as u64, window]
    }

    /// Stores rows of keys `[kv heads * key dim]` and values `[kv heads * value dim]` of the positions from `first` on,
    /// which there is room for.
    pub(crate) fn store(&mut self, cpu: &Cpu, first: usize, keys: &[f32], values: &[f32]) {
        let (shape, first_page) = (self.shape, self.first);
        let CacheShape { kv_heads, key_dim, value_dim, .. } = shape;
        let (key_row, value_row, size) = (kv_heads * key_dim, kv_heads * value_dim, shape.places().end);
        let positions = first..first + keys.len() / key_row;
        for page in first / PAGE..positions.end.div_ceil(PAGE) {
            let inside = positions.start.max(page * PAGE)..positions.end.min((page + 1) * PAGE);
            let (from, count) = (inside.start - first, inside.len());
            let (keys, values) = (&keys[from * key_row..], &values[from * value_row..]);
            let bytes = Shares::new(written(&mut self.pages[page - first_page]));
            cpu.pool.for_chunks(kv_heads, MANY_ROWS / count, &|_, heads| {
                ROW.with_borrow_mut(|row| {
                    for head in heads {
                        // SAFETY: each head belongs to one task.
                        let part = unsafe { bytes.range(head * size..(head + 1) * size) };
                        let rows = Rows { head, kv_heads, count, keys, values };
                        shape.fill(cpu.kernels, part, inside.start % PAGE, rows, row);
                    }
                });
            });
        }
    }

    /// One KV head's rows in one page.
    pub(super) fn part(&self, page: usize, kv_head: usize) -> Part<'_> {
        let size = self.shape.places().end;
        let bytes = &self.pages[page - self.first].bytes()[kv_head * size..][..size];
        Part { bytes, shape: self.shape }
    }
}

/// Makes a page that other sequences hold too this one's own.
pub(crate) fn own(page: &mut Arc<Buffer>) -> Result<(), OutOfMemory> {
    if Arc::get_mut(page).is_none() {
        let mut copy = Buffer::zeroed(page.bytes().len())?;
        copy.bytes_mut().copy_from_slice(page.bytes());
        *page = Arc::new(copy);
    }
    Ok(())
}

/// Bytes of a page that is this sequence's [`own`].
pub(crate) fn written(page: &mut Arc<Buffer>) -> &mut [u8] {
    Arc::get_mut(page).expect("`grow` has made it this sequence's own").bytes_mut()
}

/// Bytes as 16-bit floats.
pub(super) fn halves(bytes: &[u8]) -> &[f16] {
    // SAFETY: every bit pattern is an f16; `align_to` splits off what is not aligned (nothing: buffers are aligned).
    unsafe { bytes.align_to::<f16>().1 }
}

/// Bytes as 16-bit floats, to change.
pub(super) fn halves_mut(bytes: &mut [u8]) -> &mut [f16] {
    // SAFETY: as in `halves`.
    unsafe { bytes.align_to_mut::<f16>().1 }
}
