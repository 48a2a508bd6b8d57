//! Parser for column types as DuckDB's DESCRIBE prints them.

use std::{iter::Peekable, str::Chars};

use super::{Column, ColumnType};

impl ColumnType {
    /// Parses a type as DuckDB prints it; `None` for types that Ducktide does not write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text.chars().peekable() };
        let column_type = parser.column_type()?;
        parser.rest.next().is_none().then_some(column_type)
    }
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    fn column_type(&mut self) -> Option<ColumnType> {
        let mut column_type = self.scalar_or_nested()?;
        while self.accept('[') {
            self.expect(']')?;
            column_type = ColumnType::List(Box::new(column_type));
        }
        Some(column_type)
    }

    fn scalar_or_nested(&mut self) -> Option<ColumnType> {
        Some(match self.words().as_str() {
            "BOOLEAN" => ColumnType::Boolean,
            "INTEGER" => ColumnType::Integer,
            "BIGINT" => ColumnType::BigInt,
            "DOUBLE" => ColumnType::Double,
            "VARCHAR" => ColumnType::Varchar,
            "BLOB" => ColumnType::Blob,
            "JSON" => ColumnType::Json,
            "UUID" => ColumnType::Uuid,
            "DATE" => ColumnType::Date,
            "TIME" => ColumnType::Time,
            "TIMESTAMP" => ColumnType::Timestamp,
            "TIMESTAMP_NS" => ColumnType::TimestampNs,
            "TIMESTAMP WITH TIME ZONE" | "TIMESTAMPTZ" => ColumnType::TimestampTz,
            "DECIMAL" => self.decimal()?,
            "MAP" => self.map()?,
            "STRUCT" => self.structure()?,
            _ => return None,
        })
    }

    fn decimal(&mut self) -> Option<ColumnType> {
        self.expect('(')?;
        let precision = self.words().parse().ok()?;
        self.expect(',')?;
        let scale = self.words().parse().ok()?;
        self.expect(')')?;
        Some(ColumnType::Decimal { precision, scale })
    }

    fn map(&mut self) -> Option<ColumnType> {
        self.expect('(')?;
        let ColumnType::Varchar = self.column_type()? else { return None };
        self.expect(',')?;
        let values = self.column_type()?;
        self.expect(')')?;
        Some(ColumnType::Map(Box::new(values)))
    }

    fn structure(&mut self) -> Option<ColumnType> {
        self.expect('(')?;
        let mut fields = Vec::new();
        loop {
            let name = self.identifier()?;
            fields.push(Column { name, column_type: self.column_type()? });
            if !self.accept(',') {
                break;
            }
        }
        self.expect(')')?;
        Some(ColumnType::Struct(fields))
    }

    fn identifier(&mut self) -> Option<String> {
        self.skip_spaces();
        if self.accept('"') {
            return self.quoted();
        }
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        (!name.is_empty()).then_some(name)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            match self.rest.next()? {
                '"' if self.rest.next_if_eq(&'"').is_none() => return Some(name),
                c => name.push(c),
            }
        }
    }

    /// Reads letters, digits and single spaces up to the next punctuation.
    fn words(&mut self) -> String {
        self.skip_spaces();
        let mut words = String::new();
        while let Some(c) =
            self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ' ')
        {
            words.push(c.to_ascii_uppercase());
        }
        words.trim_end().to_owned()
    }

    fn skip_spaces(&mut self) {
        while self.rest.next_if_eq(&' ').is_some() {}
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.skip_spaces();
        self.accept(wanted).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn types_are_read_as_duckdb_prints_them() {
        let printed =
            r#"STRUCT(a INTEGER, "b c" VARCHAR[], "d""e" MAP(VARCHAR, DECIMAL(18,3)))[][]"#;

        let parsed = ColumnType::parse(printed).unwrap();

        let decimal = ColumnType::Decimal { precision: 18, scale: 3 };
        let fields = vec![
            Column::new("a", ColumnType::Integer),
            Column::new("b c", ColumnType::List(Box::new(ColumnType::Varchar))),
            Column::new("d\"e", ColumnType::Map(Box::new(decimal))),
        ];
        let lists = ColumnType::List(Box::new(ColumnType::Struct(fields)));
        assert_eq!(parsed, ColumnType::List(Box::new(lists)));
    }

    #[test]
    fn types_that_are_never_written_are_not_read() {
        for text in
            ["", "HUGEINT", "INTEGER[3]", "MAP(BIGINT, VARCHAR)", "STRUCT()", "DATE x", "TIME)"]
        {
            assert_eq!(ColumnType::parse(text), None, "{text}");
        }
    }

    fn column_type() -> impl Strategy<Value = ColumnType> {
        let leaf = prop_oneof![
            Just(ColumnType::Boolean),
            Just(ColumnType::TimestampTz),
            Just(ColumnType::TimestampNs),
            Just(ColumnType::Json),
            (1_u8..=38)
                .prop_map(|precision| ColumnType::Decimal { precision, scale: precision / 2 }),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            let field = ("[a-z\" ,()]{1,6}", inner.clone());
            let field = field.prop_map(|(name, column_type)| Column { name, column_type });
            prop_oneof![
                inner.clone().prop_map(|t| ColumnType::List(Box::new(t))),
                inner.prop_map(|t| ColumnType::Map(Box::new(t))),
                prop::collection::vec(field, 1..4).prop_map(ColumnType::Struct),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_type_is_read_back_from_its_own_sql(column_type in column_type()) {
            prop_assert_eq!(ColumnType::parse(&column_type.sql()), Some(column_type));
        }
    }
}
