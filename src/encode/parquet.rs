//! One part: Arrow batches in, one Parquet file out.
//!
//! Works on the level below parquet's `ArrowWriter`, because two decisions are ours: row groups close by their encoded
//! bytes, and each column is encoded in the way that pays for its values ([`super::encoding`]).

use super::arrow_schema::arrow_schema;
use super::checksum::ColumnSums;
use super::encoding::{self, ColumnEncoding};
use crate::config::model::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::Schema;
use ::parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use ::parquet::basic::{self, Encoding, GzipLevel, PageType, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, KeyValue};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::ColumnPath;
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::io::{self, BufWriter, Write};

/// Bytes collected before the sink is written to. Pages are smaller than this on narrow tables.
const SINK_BUFFER: usize = 512 * 1024;

/// Bytes of one column, before compression, after which a page is closed. Larger pages compress 1 or 2 % better, and their
/// buffers come fresh from the operating system each time, which costs more than that.
const PAGE_BYTES: usize = 256 * 1024;

/// The buffer with which parquet's encoder of deltas begins.
const DELTA_BUFFER: usize = 1024 * 1024;

/// So that the buffers of very wide tables stay within bounds.
const MAX_DELTA_COLUMNS: usize = 16;

/// No row group has more rows than this, however well they compress: readers hold a group's columns at once, and so does
/// this writer. Larger groups of narrow rows made no file smaller by one part in a thousand.
const MAX_GROUP_ROWS: usize = 256 * 1024;

/// A batch of more bytes than this is encoded in pieces, so that a row group can close between them.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// A file has at most 32,767 row groups, whose ordinals are 16 bits, and one batch may make thousands of them.
const MOST_ROW_GROUPS: usize = 16_384;

/// A column of more bytes than this in a piece has a giant value in it, since other pieces are smaller altogether.
const GIANT_BYTES: usize = 2 * PIECE_BYTES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOptions {
    pub compression: Compression,
    /// Rows of a row group; `None` = by bytes alone.
    pub row_group_rows: Option<usize>,
    /// Encoded bytes after which a row group closes. An encoder holds two to three times as much in memory. Groups of 16
    /// MiB instead of 8 make no difference to the size of a file or to the time it takes.
    pub row_group_bytes: usize,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        ParquetOptions { compression: Compression::Zstd(1), row_group_rows: None, row_group_bytes: 8 * 1024 * 1024 }
    }
}

/// What became of the batches of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPart {
    pub rows: u64,
    pub row_groups: u32,
    /// One for each column, in order: see [`super::checksum`].
    pub column_checksums: Vec<u64>,
}

pub struct PartEncoder<W: Write + Send> {
    file: SerializedFileWriter<Sink<W>>,
    schema: SchemaRef,
    options: ParquetOptions,
    /// Paths of the leaves, column by column. A struct has several.
    paths: Vec<ColumnPath>,
    encodings: Encodings,
    group: Option<RowGroup>,
    sums: ColumnSums,
    rows: u64,
}

/// Collects pages into large writes. Empty once the part is finished: a finished file writer hands its sink out no other
/// way.
struct Sink<W: Write>(Option<BufWriter<W>>);

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), |sink| sink.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

/// How the columns of the coming row groups are encoded.
enum Encodings {
    /// No row has been seen.
    Undecided,
    Decided {
        columns: Vec<ColumnEncoding>,
        factory: ArrowRowGroupWriterFactory,
    },
}

struct RowGroup {
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl RowGroup {
    fn write(&mut self, schema: &SchemaRef, piece: &RecordBatch) -> Result<()> {
        let mut writers = self.columns.iter_mut();
        for (field, array) in schema.fields().iter().zip(piece.columns()) {
            for (leaf, column) in compute_leaves(field, array).map_err(parquet_error)?.iter().zip(&mut writers) {
                column.write(leaf).map_err(parquet_error)?;
            }
        }
        self.rows += piece.num_rows();
        Ok(())
    }
}

impl<W: Write + Send> PartEncoder<W> {
    /// Begins a file for rows of `schema`. `metadata` goes into the footer, key by key.
    ///
    /// # Errors
    /// `ConfigInvalid` for a compression level that the codec does not have, `SourceUnsupported` for a schema without
    /// columns, and whatever the sink reports.
    pub fn new(
        sink: W,
        schema: &Schema,
        options: &ParquetOptions,
        metadata: Vec<(String, String)>,
    ) -> Result<PartEncoder<W>> {
        if schema.columns.is_empty() {
            return Err(Error::new(ErrorKind::SourceUnsupported, "a Parquet file needs at least one column"));
        }
        let arrow = arrow_schema(schema);
        let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect();
        let properties = properties(options)?.set_key_value_metadata(Some(metadata)).build();
        let sink = Sink(Some(BufWriter::with_capacity(SINK_BUFFER, sink)));
        let (file, _) = writer(sink, &arrow, properties)?;
        let paths = file.schema_descr().columns().iter().map(|leaf| leaf.path().clone()).collect();
        Ok(PartEncoder {
            file,
            schema: arrow,
            options: options.clone(),
            paths,
            encodings: Encodings::Undecided,
            group: None,
            sums: ColumnSums::new(schema.columns.len()),
            rows: 0,
        })
    }

    /// Encodes the rows of `batch`, whose columns are those of the schema; field names and metadata are not looked at.
    ///
    /// # Errors
    /// `Internal`, when the batch is of another shape; `SourceValue`, when a required column holds a NULL; whatever the
    /// sink reports. The encoder is of no use afterwards.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.check(batch)?;
        self.sums.add(batch)?;
        let bytes = batch.get_array_memory_size();
        let step = piece_rows(batch.num_rows(), bytes);
        let mut start = 0;
        while start < batch.num_rows() {
            let begun = self.group.as_ref().map_or(0, |group| group.rows);
            let rows = step.min(self.max_group_rows() - begun).min(batch.num_rows() - start);
            let piece = batch.slice(start, rows);
            let giants = if bytes > GIANT_BYTES { giants(&piece) } else { Vec::new() };
            match giants.as_slice() {
                [] => self.write_piece(&piece)?,
                giants => self.write_giants(&piece, giants)?,
            }
            start += rows;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Bytes of the file so far: what was flushed, and an estimate of the row group in progress.
    pub fn encoded_bytes(&self) -> u64 {
        let in_progress: usize = self.columns().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        (self.file.bytes_written() + in_progress) as u64
    }

    /// Whether a part of at most so many bytes should be closed, or has as many row groups as a file should.
    pub fn is_full(&self, part_bytes: u64) -> bool {
        self.encoded_bytes() >= part_bytes || self.file.flushed_row_groups().len() >= MOST_ROW_GROUPS
    }

    /// Bytes held in memory, about.
    pub fn memory_bytes(&self) -> usize {
        self.columns().map(ArrowColumnWriter::memory_size).sum::<usize>() + SINK_BUFFER
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and the footer, and gives the sink back.
    ///
    /// # Errors
    /// Whatever the sink reports.
    pub fn finish(mut self) -> Result<(W, EncodedPart)> {
        self.close_group()?;
        let row_groups = self.file.finish().map_err(parquet_error)?.num_row_groups() as u32;
        let buffered = self.file.inner_mut().0.take();
        let buffered = buffered.ok_or_else(|| Error::new(ErrorKind::Internal, "a part's sink was taken twice"))?;
        let sink = buffered.into_inner().map_err(|error| sink_error(error.into_error()))?;
        Ok((sink, EncodedPart { rows: self.rows, row_groups, column_checksums: self.sums.into_sums() }))
    }

    fn check(&self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns();
        if columns.len() != self.schema.fields().len() {
            let what = format!("a batch of {} columns for a file of {}", columns.len(), self.schema.fields().len());
            return Err(Error::new(ErrorKind::Internal, what));
        }
        for (field, column) in self.schema.fields().iter().zip(columns) {
            let name = field.name();
            if !field.data_type().equals_datatype(column.data_type()) {
                let what = format!("column {name:?} holds {} and its file {}", column.data_type(), field.data_type());
                return Err(Error::new(ErrorKind::Internal, what));
            }
            if !field.is_nullable() && column.null_count() > 0 {
                let what = format!("column {name:?} is declared NOT NULL and the server sent a NULL");
                return Err(Error::new(ErrorKind::SourceValue, what));
            }
        }
        Ok(())
    }

    fn max_group_rows(&self) -> usize {
        self.options.row_group_rows.unwrap_or(MAX_GROUP_ROWS).max(1)
    }

    fn write_piece(&mut self, piece: &RecordBatch) -> Result<()> {
        if matches!(self.encodings, Encodings::Undecided) {
            let columns = self.judge(piece)?;
            self.encodings = self.decide(columns)?;
        }
        let index = self.file.flushed_row_groups().len();
        let group = match (&mut self.group, &self.encodings) {
            (Some(group), _) => group,
            (vacant, Encodings::Decided { factory, .. }) => {
                let columns = factory.create_column_writers(index).map_err(parquet_error)?;
                vacant.insert(RowGroup { columns, rows: 0 })
            }
            (_, Encodings::Undecided) => return Err(Error::new(ErrorKind::Internal, "encodings were never decided")),
        };
        group.write(&self.schema, piece)?;
        let full = group.rows >= self.max_group_rows() || self.group_is_full();
        if full { self.close_group() } else { Ok(()) }
    }

    /// Writes a piece with giant values in these columns as a row group of its own: all plain, and these columns without
    /// statistics. The least and the largest value of a group are kept whole until its end, and would be two more copies of a
    /// giant one.
    fn write_giants(&mut self, piece: &RecordBatch, giants: &[usize]) -> Result<()> {
        self.close_group()?;
        let mut builder = properties(&self.options)?.set_dictionary_enabled(false).set_encoding(Encoding::PLAIN);
        for (leaf, path) in self.paths.iter().enumerate() {
            if giants.contains(&self.file.schema_descr().get_column_root_idx(leaf)) {
                builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
        }
        let (_, factory) = writer(io::sink(), &self.schema, builder.build())?;
        let columns = factory.create_column_writers(self.file.flushed_row_groups().len()).map_err(parquet_error)?;
        let mut group = RowGroup { columns, rows: 0 };
        group.write(&self.schema, piece)?;
        self.append(group)
    }

    fn group_is_full(&self) -> bool {
        let encoded: usize = self.columns().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        // Dictionaries and unfinished pages are held in forms larger than what they will be encoded to.
        let held: usize = self.columns().map(ArrowColumnWriter::memory_size).sum();
        let target = self.options.row_group_bytes;
        encoded >= target || held.saturating_sub(self.delta_reserve()) >= target + target / 2
    }

    /// What encoders of deltas count as their memory, however little of it they have filled.
    fn delta_reserve(&self) -> usize {
        let Encodings::Decided { columns, .. } = &self.encodings else { return 0 };
        columns.iter().filter(|encoding| encoding.has_a_buffer()).count() * DELTA_BUFFER
    }

    fn columns(&self) -> impl Iterator<Item = &ArrowColumnWriter> {
        self.group.iter().flat_map(|group| &group.columns)
    }

    fn close_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        self.append(group)?;
        self.learn()
    }

    fn append(&mut self, group: RowGroup) -> Result<()> {
        let mut row_group = self.file.next_row_group().map_err(parquet_error)?;
        for column in group.columns {
            let chunk = column.close().map_err(parquet_error)?;
            chunk.append_to_row_group(&mut row_group).map_err(parquet_error)?;
        }
        row_group.close().map_err(parquet_error)?;
        Ok(())
    }

    /// How the leaves of the first row group are encoded, by a look at its first rows.
    fn judge(&self, first: &RecordBatch) -> Result<Vec<ColumnEncoding>> {
        let row_bytes = (first.get_array_memory_size() / first.num_rows().max(1)).max(1);
        // Encoding makes rows about a third of their size, give or take: only the order of magnitude matters.
        let group_rows = (3 * self.options.row_group_bytes / row_bytes).clamp(1, self.max_group_rows());
        let mut buffers = 0;
        let leaves: Vec<ArrayRef> = first.columns().iter().flat_map(encoding::leaves).collect();
        let judged = leaves.iter().map(|leaf| {
            let chosen = encoding::choose(leaf, group_rows)?;
            buffers += usize::from(chosen.has_a_buffer());
            let too_many = chosen.has_a_buffer() && buffers > MAX_DELTA_COLUMNS;
            Ok(if too_many { ColumnEncoding::Plain } else { chosen })
        });
        judged.collect()
    }

    /// Drops dictionaries that the writer gave up while it wrote the group before.
    fn learn(&mut self) -> Result<()> {
        let Encodings::Decided { columns, .. } = &self.encodings else { return Ok(()) };
        let Some(written) = self.file.flushed_row_groups().last() else { return Ok(()) };
        let kept: Vec<ColumnEncoding> = columns
            .iter()
            .zip(written.columns())
            .map(|(&encoding, chunk)| match encoding {
                ColumnEncoding::Dictionary if gave_up_its_dictionary(chunk) => ColumnEncoding::Plain,
                _ => encoding,
            })
            .collect();
        if &kept != columns {
            self.encodings = self.decide(kept)?;
        }
        Ok(())
    }

    fn decide(&self, columns: Vec<ColumnEncoding>) -> Result<Encodings> {
        let mut builder = properties(&self.options)?;
        for (path, &encoding) in self.paths.iter().zip(&columns) {
            let dictionary = encoding == ColumnEncoding::Dictionary;
            builder = builder.set_column_dictionary_enabled(path.clone(), dictionary);
            let encoding = match encoding {
                ColumnEncoding::Delta => Encoding::DELTA_BINARY_PACKED,
                ColumnEncoding::DeltaLength => Encoding::DELTA_LENGTH_BYTE_ARRAY,
                ColumnEncoding::Dictionary | ColumnEncoding::Plain => Encoding::PLAIN,
            };
            builder = builder.set_column_encoding(path.clone(), encoding);
        }
        // A factory takes its properties from a file, so this one is written nowhere.
        let (_, factory) = writer(io::sink(), &self.schema, builder.build())?;
        Ok(Encodings::Decided { columns, factory })
    }
}

/// Rows of a batch that are encoded before the row group's limits are looked at again. At least one.
fn piece_rows(rows: usize, bytes: usize) -> usize {
    ((rows as u128 * PIECE_BYTES as u128 / bytes.max(1) as u128) as usize).max(1)
}

/// The columns of a piece that hold giant values.
fn giants(piece: &RecordBatch) -> Vec<usize> {
    let is_giant = |column: &ArrayRef| column.to_data().get_slice_memory_size().is_ok_and(|bytes| bytes > GIANT_BYTES);
    piece.columns().iter().enumerate().filter(|(_, column)| is_giant(column)).map(|(index, _)| index).collect()
}

fn gave_up_its_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    let pages = chunk.page_encoding_stats().map(Vec::as_slice).unwrap_or_default();
    pages.iter().any(|pages| pages.page_type != PageType::DICTIONARY_PAGE && pages.encoding != Encoding::RLE_DICTIONARY)
}

/// A file and the factory of its column writers, with Arrow's own schema in the footer so that readers of Arrow get
/// the types back to the letter.
fn writer<S: Write + Send>(
    sink: S,
    schema: &SchemaRef,
    properties: WriterProperties,
) -> Result<(SerializedFileWriter<S>, ArrowRowGroupWriterFactory)> {
    let options = ArrowWriterOptions::new().with_properties(properties).with_schema_root("rivet".to_owned());
    ArrowWriter::try_new_with_options(sink, schema.clone(), options)
        .and_then(ArrowWriter::into_serialized_writer)
        .map_err(parquet_error)
}

fn properties(options: &ParquetOptions) -> Result<WriterPropertiesBuilder> {
    Ok(WriterProperties::builder()
        .set_created_by(concat!("rivet ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression(options.compression)?)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(2 * encoding::DICTIONARY_BYTES)
        // Row groups are closed here, not there.
        .set_max_row_group_row_count(None))
}

fn compression(compression: Compression) -> Result<basic::Compression> {
    let wrong = |error: ParquetError| {
        Error::new(ErrorKind::ConfigInvalid, format!("compression level of {}: {error}", compression.name()))
    };
    Ok(match compression {
        Compression::Zstd(level) => basic::Compression::ZSTD(ZstdLevel::try_new(level).map_err(wrong)?),
        Compression::Gzip(level) => basic::Compression::GZIP(GzipLevel::try_new(level).map_err(wrong)?),
        Compression::Snappy => basic::Compression::SNAPPY,
        Compression::Lz4 => basic::Compression::LZ4_RAW,
        Compression::None => basic::Compression::UNCOMPRESSED,
    })
}

/// A failure of the sink keeps its class (a full disk, say); anything else means that the encoder was used wrongly.
fn parquet_error(error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => sink_error(*io),
            Err(other) => Error::new(ErrorKind::Internal, format!("encoding Parquet: {other}")),
        },
        other => Error::new(ErrorKind::Internal, format!("encoding Parquet: {other}")),
    }
}

fn sink_error(error: io::Error) -> Error {
    crate::destination::classify(error)
}
