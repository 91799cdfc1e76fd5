//! PostgreSQL's messages about locks, in the languages that it speaks.
//!
//! From the message catalogues of PostgreSQL 15.18 and 15.20; `%s` stands for a name.
//! Translations change even between minor releases, so no such table is complete.

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    RowNotAvailable,
    RelationNotAvailable,
    LockTimeout,
    Deadlock,
    StatementTimeout,
    Canceled,
    TransactionAborted,
    ConnectionLost,
}

/// The message, and its text in English first, then in other languages by their codes.
///
/// French and Korean have one text for rows and relations: it is listed for relations alone.
pub(super) const MESSAGES: &[(Message, &str)] = &[
    (
        Message::RowNotAvailable,
        "could not obtain lock on row in relation \"%s\"",
    ),
    (
        Message::RowNotAvailable,
        "konnte Sperre für Zeile in Relation »%s« nicht setzen",
    ),
    (
        Message::RowNotAvailable,
        "no se pudo bloquear un candado en la fila de la relación «%s»",
    ),
    (
        Message::RowNotAvailable,
        "lock di riga nella relazione \"%s\" fallito",
    ),
    (
        Message::RowNotAvailable,
        "リレーション\"%s\"の行ロックを取得できませんでした",
    ),
    (
        Message::RowNotAvailable,
        "ურთიერთობაში \"%s\" მწკრივის დაბლოკვის შეცდომა",
    ),
    (
        Message::RowNotAvailable,
        "не удалось получить блокировку строки в таблице \"%s\"",
    ),
    (
        Message::RowNotAvailable,
        "kunde inte låsa rad i relationen \"%s\"",
    ),
    (
        Message::RowNotAvailable,
        "не вдалося отримати блокування у рядку стосовно \"%s\"",
    ),
    (
        Message::RowNotAvailable,
        "无法在关系 \"%s\"中的记录上获得锁",
    ),
    (Message::RowNotAvailable, "无法获取关系 \"%s\" 中行的锁"),
    (
        Message::RowNotAvailable,
        "無法取得關聯 \"%s\" 中的資料列鎖定",
    ),
    (
        Message::RelationNotAvailable,
        "could not obtain lock on relation \"%s\"",
    ),
    (
        Message::RelationNotAvailable,
        "konnte Sperre für Relation »%s« nicht setzen",
    ),
    (
        Message::RelationNotAvailable,
        "no se pudo bloquear un candado en la relación «%s»",
    ),
    (
        Message::RelationNotAvailable,
        "n'a pas pu obtenir un verrou sur la relation « %s »",
    ),
    (
        Message::RelationNotAvailable,
        "lock della relazione \"%s\" fallito",
    ),
    (
        Message::RelationNotAvailable,
        "リレーション\"%s\"のロックを取得できませんでした",
    ),
    (
        Message::RelationNotAvailable,
        "ბლოკის მიღების შეცდომა ურთიერთობაზე %s\"",
    ),
    (
        Message::RelationNotAvailable,
        "\"%s\" 릴레이션의 잠금 정보를 구할 수 없음",
    ),
    (
        Message::RelationNotAvailable,
        "не удалось получить блокировку таблицы \"%s\"",
    ),
    (
        Message::RelationNotAvailable,
        "kunde inte ta lås på relationen \"%s\"",
    ),
    (
        Message::RelationNotAvailable,
        "не вдалося отримати блокування зв'язку \"%s\"",
    ),
    (Message::RelationNotAvailable, "无法在关系 \"%s\" 上获得锁"),
    (Message::RelationNotAvailable, "无法获取关系 \"%s\" 上的锁"),
    (Message::RelationNotAvailable, "無法取得關聯 \"%s\" 的鎖定"),
    (
        Message::LockTimeout,
        "canceling statement due to lock timeout",
    ),
    (
        Message::LockTimeout,
        "storniere Anfrage wegen Zeitüberschreitung einer Sperre",
    ),
    (
        Message::LockTimeout,
        "cancelando la sentencia debido a que se agotó el tiempo de espera de candados (locks)",
    ),
    (
        Message::LockTimeout,
        "annulation de la requête à cause du délai écoulé pour l'obtention des verrous",
    ),
    (
        Message::LockTimeout,
        "annullamento dell'istruzione a causa di timeout di lock",
    ),
    (
        Message::LockTimeout,
        "ロックのタイムアウトのためステートメントをキャンセルしています",
    ),
    (
        Message::LockTimeout,
        "გამოსახულება გაუქმდება ბლოკის მოლოდინის ვადის ამოწურვის გამო",
    ),
    (
        Message::LockTimeout,
        "잠금 대기 시간 초과로 작업을 취소합니다.",
    ),
    (
        Message::LockTimeout,
        "выполнение оператора отменено из-за тайм-аута блокировки",
    ),
    (
        Message::LockTimeout,
        "avbryter sats på grund av lås-timeout",
    ),
    (
        Message::LockTimeout,
        "виконання оператора скасовано через тайм-аут блокування",
    ),
    (Message::LockTimeout, "由于锁超时，取消语句操作"),
    (Message::LockTimeout, "由于锁超时，正在取消语句"),
    (Message::LockTimeout, "由於鎖定逾時，正在取消敘述"),
    (Message::Deadlock, "deadlock detected"),
    (Message::Deadlock, "Verklemmung (Deadlock) entdeckt"),
    (Message::Deadlock, "se ha detectado un deadlock"),
    (Message::Deadlock, "interblocage (deadlock) détecté"),
    (Message::Deadlock, "rilevato deadlock"),
    (Message::Deadlock, "デッドロックを検出しました"),
    (Message::Deadlock, "ნაპოვნია ურთიერთბლოკირება"),
    (Message::Deadlock, "deadlock 발생했음"),
    (Message::Deadlock, "обнаружена взаимоблокировка"),
    (Message::Deadlock, "deadlock upptäckt"),
    (Message::Deadlock, "виявлено взаємне блокування"),
    (Message::Deadlock, "检测到死锁"),
    (Message::Deadlock, "發現死結"),
    (
        Message::StatementTimeout,
        "canceling statement due to statement timeout",
    ),
    (
        Message::StatementTimeout,
        "storniere Anfrage wegen Zeitüberschreitung der Anfrage",
    ),
    (
        Message::StatementTimeout,
        "cancelando la sentencia debido a que se agotó el tiempo de espera de sentencias",
    ),
    (
        Message::StatementTimeout,
        "annulation de la requête à cause du délai écoulé pour l'exécution de l'instruction",
    ),
    (
        Message::StatementTimeout,
        "annullamento dell'istruzione a causa di timeout",
    ),
    (
        Message::StatementTimeout,
        "ステートメントのタイムアウトのためステートメントをキャンセルしています",
    ),
    (
        Message::StatementTimeout,
        "명령실행시간 초과로 작업을 취소합니다.",
    ),
    (
        Message::StatementTimeout,
        "выполнение оператора отменено из-за тайм-аута",
    ),
    (
        Message::StatementTimeout,
        "avbryter sats på grund av sats-timeout",
    ),
    (
        Message::StatementTimeout,
        "виконання оператора скасовано через тайм-аут",
    ),
    (
        Message::StatementTimeout,
        "由于语句执行超时，正在取消查询命令",
    ),
    (Message::StatementTimeout, "由于语句执行超时，正在取消语句"),
    (Message::StatementTimeout, "因為陳述式逾時，正在取消陳述式"),
    (Message::Canceled, "canceling statement due to user request"),
    (
        Message::Canceled,
        "storniere Anfrage wegen Benutzeraufforderung",
    ),
    (
        Message::Canceled,
        "cancelando la sentencia debido a una petición del usuario",
    ),
    (
        Message::Canceled,
        "annulation de la requête à la demande de l'utilisateur",
    ),
    (
        Message::Canceled,
        "annullamento dell'istruzione su richiesta dell'utente",
    ),
    (
        Message::Canceled,
        "ユーザーからの要求により文をキャンセルしています",
    ),
    (Message::Canceled, "사용자 요청에 의해 작업을 취소합니다."),
    (
        Message::Canceled,
        "выполнение оператора отменено по запросу пользователя",
    ),
    (Message::Canceled, "avbryter sats på användares begäran"),
    (
        Message::Canceled,
        "виконання оператора скасовано по запиту користувача",
    ),
    (Message::Canceled, "由于用户请求而正在取消查询"),
    (Message::Canceled, "由于用户请求，正在取消语句"),
    (Message::Canceled, "因為使用者要求，正在取消陳述式"),
    (
        Message::TransactionAborted,
        "current transaction is aborted, commands ignored until end of transaction block",
    ),
    (
        Message::TransactionAborted,
        "aktuelle Transaktion wurde abgebrochen, Befehle werden bis zum Ende der Transaktion ignoriert",
    ),
    (
        Message::TransactionAborted,
        "transacción abortada, las órdenes serán ignoradas hasta el fin de bloque de transacción",
    ),
    (
        Message::TransactionAborted,
        "la transaction est annulée, les commandes sont ignorées jusqu'à la fin du bloc\nde la transaction",
    ),
    (
        Message::TransactionAborted,
        "la transazione corrente è interrotta, i comandi saranno ignorati fino alla fine del blocco della transazione",
    ),
    (
        Message::TransactionAborted,
        "現在のトランザクションがアボートしました。トランザクションブロックが終わるまでコマンドは無視されます",
    ),
    (
        Message::TransactionAborted,
        "현재 트랜잭션은 중지되어 있습니다. 이 트랜잭션을 종료하기 전까지는 모든 명령이 무시될 것입니다",
    ),
    (
        Message::TransactionAborted,
        "текущая транзакция прервана, команды до конца блока транзакции игнорируются",
    ),
    (
        Message::TransactionAborted,
        "aktuella transaktionen har avbrutits, alla kommandon ignoreras tills slutet på transaktionen",
    ),
    (
        Message::TransactionAborted,
        "поточна транзакція перервана, команди до кінця блока транзакції пропускаються",
    ),
    (
        Message::TransactionAborted,
        "当前事务已中止，事务块结束之前的命令将被忽略",
    ),
    (
        Message::TransactionAborted,
        "当前事务被终止, 事务块结束之前的查询被忽略",
    ),
    (
        Message::TransactionAborted,
        "目前交易已中止，忽略指令直到交易區塊結尾",
    ),
    (
        Message::ConnectionLost,
        "terminating connection due to administrator command",
    ),
    (
        Message::ConnectionLost,
        "Verbindung wird abgebrochen aufgrund von Anweisung des Administrators",
    ),
    (
        Message::ConnectionLost,
        "terminando la conexión debido a una orden del administrador",
    ),
    (
        Message::ConnectionLost,
        "arrêt des connexions suite à la demande de l'administrateur",
    ),
    (
        Message::ConnectionLost,
        "interruzione della connessione su comando dell'amministratore",
    ),
    (
        Message::ConnectionLost,
        "管理者コマンドにより接続を終了しています",
    ),
    (
        Message::ConnectionLost,
        "მიერთების შეწყვეტა ადმინისტრატორის ბრძანების გამო",
    ),
    (
        Message::ConnectionLost,
        "관리자 요청에 의해서 연결을 끝냅니다",
    ),
    (
        Message::ConnectionLost,
        "закрытие подключения по команде администратора",
    ),
    (
        Message::ConnectionLost,
        "avslutar anslutning på grund av ett administratörskommando",
    ),
    (
        Message::ConnectionLost,
        "завершення підключення по команді адміністратора",
    ),
    (Message::ConnectionLost, "由于管理员命令中断联接"),
    (Message::ConnectionLost, "由于管理员命令，正在终止连接"),
    (Message::ConnectionLost, "因管理員命令，正在中斷連線"),
];
