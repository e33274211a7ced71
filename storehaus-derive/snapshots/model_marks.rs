#[allow(deprecated)]
const _: () = {
    use ::storehaus::__private as __p;
    #[automatically_derived]
    impl __p::cache::Cacheable for User
    where
        User: ::core::clone::Clone,
        Uuid: __p::model::ModelKey,
        DateTime<Utc>: __p::model::Timestamp,
        Option<NaiveDateTime>: __p::model::Timestamp,
    {
        const SCHEMA: ::core::primitive::u64 = __p::cache::codec::schema(
            "users",
            &[
                ("id", <Uuid as __p::field::Field>::LAYOUT),
                ("email", <String as __p::field::Field>::LAYOUT),
                ("name", <String as __p::field::Field>::LAYOUT),
                (
                    "settings",
                    __p::cache::codec::JsonField::layout(
                        "HashMap<String,Option<dyn_like::Value>>",
                    ),
                ),
                ("revision", <i64 as __p::field::Field>::LAYOUT),
                ("email_lower", <String as __p::field::Field>::LAYOUT),
                ("tenant", <i64 as __p::field::Field>::LAYOUT),
                ("created", <DateTime<Utc> as __p::field::Field>::LAYOUT),
                ("updated", <Option<NaiveDateTime> as __p::field::Field>::LAYOUT),
                ("select", <String as __p::field::Field>::LAYOUT),
                ("other", <bool as __p::field::Field>::LAYOUT),
            ],
        );
        fn write(
            &self,
            __out: &mut __p::cache::Encoder,
        ) -> ::core::result::Result<(), __p::cache::EncodeError> {
            <Uuid as __p::field::Field>::encode(&self.id, __out)?;
            <String as __p::field::Field>::encode(&self.email, __out)?;
            <String as __p::field::Field>::encode(&self.name, __out)?;
            <HashMap<
                String,
                Option<dyn_like::Value>,
            > as __p::field::JsonField>::encode(&self.settings, __out)?;
            <i64 as __p::field::Field>::encode(&self.revision, __out)?;
            <String as __p::field::Field>::encode(&self.email_lower, __out)?;
            <i64 as __p::field::Field>::encode(&self.tenant, __out)?;
            <DateTime<Utc> as __p::field::Field>::encode(&self.created, __out)?;
            <Option<NaiveDateTime> as __p::field::Field>::encode(&self.updated, __out)?;
            <String as __p::field::Field>::encode(&self.r#type, __out)?;
            <bool as __p::field::Field>::encode(&self.other, __out)?;
            ::core::result::Result::Ok(())
        }
        fn read(
            __input: &mut __p::cache::Decoder<'_>,
        ) -> ::core::result::Result<Self, __p::cache::DecodeError> {
            ::core::result::Result::Ok(Self {
                id: <Uuid as __p::field::Field>::decode(__input)?,
                email: <String as __p::field::Field>::decode(__input)?,
                name: <String as __p::field::Field>::decode(__input)?,
                settings: <HashMap<
                    String,
                    Option<dyn_like::Value>,
                > as __p::field::JsonField>::decode(__input)?,
                revision: <i64 as __p::field::Field>::decode(__input)?,
                email_lower: <String as __p::field::Field>::decode(__input)?,
                tenant: <i64 as __p::field::Field>::decode(__input)?,
                created: <DateTime<Utc> as __p::field::Field>::decode(__input)?,
                updated: <Option<NaiveDateTime> as __p::field::Field>::decode(__input)?,
                r#type: <String as __p::field::Field>::decode(__input)?,
                other: <bool as __p::field::Field>::decode(__input)?,
            })
        }
    }
    #[automatically_derived]
    impl __p::model::Model for User
    where
        User: ::core::clone::Clone,
        Uuid: __p::model::ModelKey,
        DateTime<Utc>: __p::model::Timestamp,
        Option<NaiveDateTime>: __p::model::Timestamp,
    {
        type Key = Uuid;
        const TABLE: __p::model::TableDef = __p::model::TableDef {
            model: "User",
            schema: ::core::option::Option::None,
            name: "users",
            columns: &[
                __p::model::ColumnDef {
                    field: "id",
                    name: "id",
                    role: __p::model::Role::Key,
                },
                __p::model::ColumnDef {
                    field: "email",
                    name: "email",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "name",
                    name: "name",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "settings",
                    name: "settings",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "revision",
                    name: "revision",
                    role: __p::model::Role::Generated(::core::option::Option::None),
                },
                __p::model::ColumnDef {
                    field: "email_lower",
                    name: "email_lower",
                    role: __p::model::Role::Generated(
                        ::core::option::Option::Some("lower(email)"),
                    ),
                },
                __p::model::ColumnDef {
                    field: "tenant",
                    name: "tenant",
                    role: __p::model::Role::InsertOnly,
                },
                __p::model::ColumnDef {
                    field: "created",
                    name: "created",
                    role: __p::model::Role::InsertOnly,
                },
                __p::model::ColumnDef {
                    field: "updated",
                    name: "updated",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "type",
                    name: "select",
                    role: __p::model::Role::Plain,
                },
                __p::model::ColumnDef {
                    field: "other",
                    name: "other",
                    role: __p::model::Role::Plain,
                },
            ],
            key: &[0usize],
            indexes: &[
                __p::model::IndexDef {
                    columns: &[1usize],
                    unique: true,
                },
                __p::model::IndexDef {
                    columns: &[2usize],
                    unique: false,
                },
            ],
            cache: __p::model::CacheMode::Shared,
            prefix: ::core::option::Option::None,
            ttl: ::core::option::Option::None,
        };
        fn key(&self) -> Self::Key {
            <Uuid as ::core::clone::Clone>::clone(&self.id)
        }
        fn before_create(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {
            if <Uuid as __p::model::ModelKey>::is_unset(&self.id) {
                if let ::core::option::Option::Some(__key) = <Uuid as __p::model::ModelKey>::generate() {
                    self.id = __key;
                }
            }
            self.created = <DateTime<Utc> as __p::model::Timestamp>::at(__now);
            self.updated = <Option<NaiveDateTime> as __p::model::Timestamp>::at(__now);
        }
        fn before_update(&mut self, __now: __p::chrono::DateTime<__p::chrono::Utc>) {
            self.updated = <Option<NaiveDateTime> as __p::model::Timestamp>::at(__now);
        }
    }
    #[if_postgres]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Postgres> for User
    where
        User: ::core::clone::Clone,
        Uuid: __p::model::ModelKey,
        DateTime<Utc>: __p::model::Timestamp,
        Option<NaiveDateTime>: __p::model::Timestamp,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <Uuid as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
            __p::column::json::sql_type::<__p::sqlx::Postgres>(),
            <i64 as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
            <i64 as __p::field::Field>::POSTGRES_TYPE,
            <DateTime<Utc> as __p::field::Field>::POSTGRES_TYPE,
            <Option<NaiveDateTime> as __p::field::Field>::POSTGRES_TYPE,
            <String as __p::field::Field>::POSTGRES_TYPE,
            <bool as __p::field::Field>::POSTGRES_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => <Uuid as __p::field::Field>::postgres_bind(&self.id, __args),
                1usize => {
                    <String as __p::field::Field>::postgres_bind(&self.email, __args)
                }
                2usize => {
                    <String as __p::field::Field>::postgres_bind(&self.name, __args)
                }
                3usize => {
                    <HashMap<
                        String,
                        Option<dyn_like::Value>,
                    > as __p::field::JsonField>::postgres_bind(&self.settings, __args)
                }
                4usize => {
                    <i64 as __p::field::Field>::postgres_bind(&self.revision, __args)
                }
                5usize => {
                    <String as __p::field::Field>::postgres_bind(
                        &self.email_lower,
                        __args,
                    )
                }
                6usize => <i64 as __p::field::Field>::postgres_bind(&self.tenant, __args),
                7usize => {
                    <DateTime<
                        Utc,
                    > as __p::field::Field>::postgres_bind(&self.created, __args)
                }
                8usize => {
                    <Option<
                        NaiveDateTime,
                    > as __p::field::Field>::postgres_bind(&self.updated, __args)
                }
                9usize => {
                    <String as __p::field::Field>::postgres_bind(&self.r#type, __args)
                }
                10usize => {
                    <bool as __p::field::Field>::postgres_bind(&self.other, __args)
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <Uuid as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.id),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.name),
                        ),
                        __args,
                    )
                }
                3usize => {
                    <HashMap<
                        String,
                        Option<dyn_like::Value>,
                    > as __p::field::JsonField>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| &__row.settings,
                        ),
                        __args,
                    )
                }
                4usize => {
                    <i64 as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.revision),
                        ),
                        __args,
                    )
                }
                5usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email_lower),
                        ),
                        __args,
                    )
                }
                6usize => {
                    <i64 as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.tenant),
                        ),
                        __args,
                    )
                }
                7usize => {
                    <DateTime<
                        Utc,
                    > as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.created),
                        ),
                        __args,
                    )
                }
                8usize => {
                    <Option<
                        NaiveDateTime,
                    > as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.updated),
                        ),
                        __args,
                    )
                }
                9usize => {
                    <String as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.r#type),
                        ),
                        __args,
                    )
                }
                10usize => {
                    <bool as __p::field::Field>::postgres_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.other),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::postgres_bind(__key, __args)
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Postgres as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::postgres_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    ::core::option::Option::Some,
                ),
                __args,
            )
        }
        fn from_row(
            __row: &<__p::sqlx::Postgres as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                id: match <Uuid as __p::field::Field>::postgres_read(__row, 0usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "id"),
                        );
                    }
                },
                email: match <String as __p::field::Field>::postgres_read(
                    __row,
                    1usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "email"),
                        );
                    }
                },
                name: match <String as __p::field::Field>::postgres_read(
                    __row,
                    2usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "name"),
                        );
                    }
                },
                settings: <HashMap<
                    String,
                    Option<dyn_like::Value>,
                > as __p::field::JsonField>::postgres_read(__row, 3usize)?,
                revision: match <i64 as __p::field::Field>::postgres_read(
                    __row,
                    4usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(4usize, "revision"),
                        );
                    }
                },
                email_lower: match <String as __p::field::Field>::postgres_read(
                    __row,
                    5usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(5usize, "email_lower"),
                        );
                    }
                },
                tenant: match <i64 as __p::field::Field>::postgres_read(__row, 6usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(6usize, "tenant"),
                        );
                    }
                },
                created: match <DateTime<
                    Utc,
                > as __p::field::Field>::postgres_read(__row, 7usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(7usize, "created"),
                        );
                    }
                },
                updated: match <Option<
                    NaiveDateTime,
                > as __p::field::Field>::postgres_read(__row, 8usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(8usize, "updated"),
                        );
                    }
                },
                r#type: match <String as __p::field::Field>::postgres_read(
                    __row,
                    9usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(9usize, "type"),
                        );
                    }
                },
                other: match <bool as __p::field::Field>::postgres_read(
                    __row,
                    10usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(10usize, "other"),
                        );
                    }
                },
            })
        }
    }
    #[if_sqlite]
    #[automatically_derived]
    impl __p::model::Persist<__p::sqlx::Sqlite> for User
    where
        User: ::core::clone::Clone,
        Uuid: __p::model::ModelKey,
        DateTime<Utc>: __p::model::Timestamp,
        Option<NaiveDateTime>: __p::model::Timestamp,
    {
        const TYPES: &'static [__p::column::SqlType] = &[
            <Uuid as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
            __p::column::json::sql_type::<__p::sqlx::Sqlite>(),
            <i64 as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
            <i64 as __p::field::Field>::SQLITE_TYPE,
            <DateTime<Utc> as __p::field::Field>::SQLITE_TYPE,
            <Option<NaiveDateTime> as __p::field::Field>::SQLITE_TYPE,
            <String as __p::field::Field>::SQLITE_TYPE,
            <bool as __p::field::Field>::SQLITE_TYPE,
        ];
        fn bind(
            &self,
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => <Uuid as __p::field::Field>::sqlite_bind(&self.id, __args),
                1usize => <String as __p::field::Field>::sqlite_bind(&self.email, __args),
                2usize => <String as __p::field::Field>::sqlite_bind(&self.name, __args),
                3usize => {
                    <HashMap<
                        String,
                        Option<dyn_like::Value>,
                    > as __p::field::JsonField>::sqlite_bind(&self.settings, __args)
                }
                4usize => <i64 as __p::field::Field>::sqlite_bind(&self.revision, __args),
                5usize => {
                    <String as __p::field::Field>::sqlite_bind(&self.email_lower, __args)
                }
                6usize => <i64 as __p::field::Field>::sqlite_bind(&self.tenant, __args),
                7usize => {
                    <DateTime<
                        Utc,
                    > as __p::field::Field>::sqlite_bind(&self.created, __args)
                }
                8usize => {
                    <Option<
                        NaiveDateTime,
                    > as __p::field::Field>::sqlite_bind(&self.updated, __args)
                }
                9usize => {
                    <String as __p::field::Field>::sqlite_bind(&self.r#type, __args)
                }
                10usize => <bool as __p::field::Field>::sqlite_bind(&self.other, __args),
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_array(
            __rows: &[Self],
            __column: ::core::primitive::usize,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            match __column {
                0usize => {
                    <Uuid as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.id),
                        ),
                        __args,
                    )
                }
                1usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email),
                        ),
                        __args,
                    )
                }
                2usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.name),
                        ),
                        __args,
                    )
                }
                3usize => {
                    <HashMap<
                        String,
                        Option<dyn_like::Value>,
                    > as __p::field::JsonField>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| &__row.settings,
                        ),
                        __args,
                    )
                }
                4usize => {
                    <i64 as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.revision),
                        ),
                        __args,
                    )
                }
                5usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.email_lower),
                        ),
                        __args,
                    )
                }
                6usize => {
                    <i64 as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.tenant),
                        ),
                        __args,
                    )
                }
                7usize => {
                    <DateTime<
                        Utc,
                    > as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.created),
                        ),
                        __args,
                    )
                }
                8usize => {
                    <Option<
                        NaiveDateTime,
                    > as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.updated),
                        ),
                        __args,
                    )
                }
                9usize => {
                    <String as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.r#type),
                        ),
                        __args,
                    )
                }
                10usize => {
                    <bool as __p::field::Field>::sqlite_bind_array(
                        ::core::iter::Iterator::map(
                            <[Self]>::iter(__rows),
                            |__row| ::core::option::Option::Some(&__row.other),
                        ),
                        __args,
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        __p::field::no_such_column("User", __column),
                    )
                }
            }
        }
        fn bind_key(
            __key: &Self::Key,
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::sqlite_bind(__key, __args)
        }
        fn bind_key_arrays(
            __keys: &[Self::Key],
            __args: &mut <__p::sqlx::Sqlite as __p::sqlx::Database>::Arguments,
        ) -> ::core::result::Result<(), __p::backend::BindError> {
            <Uuid as __p::field::Field>::sqlite_bind_array(
                ::core::iter::Iterator::map(
                    <[Self::Key]>::iter(__keys),
                    ::core::option::Option::Some,
                ),
                __args,
            )
        }
        fn from_row(
            __row: &<__p::sqlx::Sqlite as __p::sqlx::Database>::Row,
        ) -> ::core::result::Result<Self, __p::sqlx::Error> {
            ::core::result::Result::Ok(Self {
                id: match <Uuid as __p::field::Field>::sqlite_read(__row, 0usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(0usize, "id"),
                        );
                    }
                },
                email: match <String as __p::field::Field>::sqlite_read(__row, 1usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(1usize, "email"),
                        );
                    }
                },
                name: match <String as __p::field::Field>::sqlite_read(__row, 2usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(2usize, "name"),
                        );
                    }
                },
                settings: <HashMap<
                    String,
                    Option<dyn_like::Value>,
                > as __p::field::JsonField>::sqlite_read(__row, 3usize)?,
                revision: match <i64 as __p::field::Field>::sqlite_read(__row, 4usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(4usize, "revision"),
                        );
                    }
                },
                email_lower: match <String as __p::field::Field>::sqlite_read(
                    __row,
                    5usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(5usize, "email_lower"),
                        );
                    }
                },
                tenant: match <i64 as __p::field::Field>::sqlite_read(__row, 6usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(6usize, "tenant"),
                        );
                    }
                },
                created: match <DateTime<
                    Utc,
                > as __p::field::Field>::sqlite_read(__row, 7usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(7usize, "created"),
                        );
                    }
                },
                updated: match <Option<
                    NaiveDateTime,
                > as __p::field::Field>::sqlite_read(__row, 8usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(8usize, "updated"),
                        );
                    }
                },
                r#type: match <String as __p::field::Field>::sqlite_read(
                    __row,
                    9usize,
                )? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(9usize, "type"),
                        );
                    }
                },
                other: match <bool as __p::field::Field>::sqlite_read(__row, 10usize)? {
                    ::core::option::Option::Some(__value) => __value,
                    ::core::option::Option::None => {
                        return ::core::result::Result::Err(
                            __p::column::null_column(10usize, "other"),
                        );
                    }
                },
            })
        }
    }
};
