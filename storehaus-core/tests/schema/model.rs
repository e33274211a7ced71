//! Models without the derive. What the macro names must be in scope where it is used.

/// What the derive writes, for structs with few columns.
macro_rules! model {
    (
        $name:ident, $table:literal, schema $schema:expr, key ($($key:ident),+): $key_ty:ty = $keys:expr,
        { $($field:ident: $ty:ty = $role:expr),* $(,)? }, [$($index:expr),* $(,)?]
    ) => {
        #[derive(Clone)]
        struct $name { $($field: $ty),* }

        impl Cacheable for $name {
            const SCHEMA: u64 = storehaus_cache::codec::layout($table);

            fn write(&self, out: &mut Encoder) -> Result<(), EncodeError> {
                $(CacheField::encode(&self.$field, out)?;)*
                Ok(())
            }

            fn read(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: CacheField::decode(input)?),* })
            }
        }

        #[allow(unused_parens)]
        impl Model for $name {
            type Key = $key_ty;

            const TABLE: TableDef = TableDef {
                model: stringify!($name),
                schema: $schema,
                name: $table,
                columns: &[$(ColumnDef { field: stringify!($field), name: stringify!($field), role: $role }),*],
                key: &$keys,
                indexes: &[$($index),*],
                cache: CacheMode::Shared,
                prefix: None,
                ttl: None,
            };

            fn key(&self) -> Self::Key {
                ($(self.$key.clone()),+)
            }

            fn before_create(&mut self, _now: DateTime<Utc>) {}

            fn before_update(&mut self, _now: DateTime<Utc>) {}
        }

        #[allow(unused_parens, unused_assignments)]
        impl<DB: Backend> Persist<DB> for $name
        where
            $($ty: Column<DB>),*
        {
            const TYPES: &'static [SqlType] = &[$(<$ty as Column<DB>>::TYPE),*];

            fn bind(&self, column: usize, args: &mut DB::Arguments) -> Result<(), BindError> {
                let mut at = 0;
                $(
                    if column == at {
                        return self.$field.bind(args);
                    }
                    at += 1;
                )*
                Err("no such column".into())
            }

            fn bind_array(rows: &[Self], column: usize, args: &mut DB::Arguments) -> Result<(), BindError> {
                let mut at = 0;
                $(
                    if column == at {
                        return Column::bind_array(rows.iter().map(|row| Some(&row.$field)), args);
                    }
                    at += 1;
                )*
                Err("no such column".into())
            }

            fn bind_key(key: &Self::Key, args: &mut DB::Arguments) -> Result<(), BindError> {
                let ($($key),+) = key;
                $(Column::bind($key, args)?;)+
                Ok(())
            }

            fn bind_key_arrays(_keys: &[Self::Key], _args: &mut DB::Arguments) -> Result<(), BindError> {
                Err("no statement about definitions takes keys".into())
            }

            fn from_row(row: &DB::Row) -> Result<Self, sqlx::Error> {
                let mut at = 0;
                $(
                    let $field = Column::read(row, at)?.ok_or_else(|| null_column(at, stringify!($field)))?;
                    at += 1;
                )*
                Ok(Self { $($field),* })
            }
        }
    };
}
