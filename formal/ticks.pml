/* One line in the ledger for each tick, whatever happens to two schedulers, their requests and the database.
 *
 *   spin -a ticks.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -c0     the whole mechanism
 *   spin -a -DCAS=0 -DFAILOVERS=1 ticks.pml && ...                      a mechanism removed, a hazard added
 *
 * Left out, because without it more is possible than with it:
 *   clocks           the lease can be taken at any moment, so it expires at any moment, by any clock
 *   stepping down    a leader does not notice that its term is over; it goes on
 *   notifications    a scheduler looks whenever it likes
 * A pause is nothing special: between two steps of one process all the others may take any number of theirs.
 *
 * A statement is one step. Postgres runs it whole or not at all, and its row locks, on the lease and on the
 * schedule, put it before or after each other statement that matters.
 */

/* Mechanisms: 1 is as built, 0 is removed. */
#ifndef FENCE
#define FENCE 1     /* the request's term and holder must be the lease's */
#endif
#ifndef VERSION
#define VERSION 1   /* the version that was read must still be in force */
#endif
#ifndef CAS
#define CAS 1       /* the watermark must still be the one that was read */
#endif
#ifndef EARLY
#define EARLY 1     /* the last tick of the request must be due by the database's clock */
#endif
#ifndef UNIQUE
#define UNIQUE 1    /* a second line for a tick is an error that undoes the whole request */
#endif
#ifndef AFTER
#define AFTER 1     /* ticks are planned after the last one that was decided, wherever the clock is */
#endif

/* Hazards: how often they may happen. */
#ifndef RETRY
#define RETRY 1     /* a request that was executed may be executed again */
#endif
#ifndef EDITS
#define EDITS 1     /* edits by an admin, that move the ticks or do not */
#endif
#ifndef FAILOVERS
#define FAILOVERS 0 /* returns of the database to an earlier state; at most 1 */
#endif
#ifndef SETBACKS
#define SETBACKS 0  /* steps back of the database's clock */
#endif

#define SCHEDULERS 2
#define TICKS 3     /* due at the instants 1, 2, 3 */
#ifndef TERMS
#define TERMS 2     /* how often the lease may be taken */
#endif
#ifndef FLIGHTS
#define FLIGHTS 2   /* requests on their way at once */
#endif
#define UNPLANNED 0 /* next_run_at IS NULL */
#define LAST_TICK (db.watermark == UNPLANNED -> db.planned_from : db.watermark - 1)
#define FIRST(r) (r.expected == UNPLANNED -> r.until + 1 : r.expected)
#define MINE request[_pid - SCHEDULERS]

typedef Database {
  byte term, holder;
  byte version, planned_from, watermark;
  byte lines[TICKS + 1];        /* ledger lines of each tick; its job comes and goes with its line */
  byte edition, newest_term     /* only for the properties: which edit is in force, who wrote last */
}

typedef Request {
  bool sent;
  byte term, holder;
  byte version, edition;
  byte expected, until          /* decide the ticks from expected to until; UNPLANNED: plan those after it */
}

Database db, standby, blank;
Request request[FLIGHTS];
byte now;
byte terms, edits, edition, setbacks;
bool copied, failed_over, calm;

/* The properties: what must never happen. */
bool doubled, missing, early, outdated, term_went_back;

/* For use within one step. */
byte t, i;
bool fits;
Request own;

inline take_lease(who) {
  db.term++;
  db.holder = who
}

inline read(r, my_term, who) {
  r.sent = true;
  r.term = my_term;
  r.holder = who;
  r.version = db.version;
  r.edition = db.edition;
  r.expected = db.watermark;
  r.until = (db.watermark == UNPLANNED -> db.planned_from : db.watermark)
}

inline execute(r) {
  fits =
    (!FENCE || (r.term == db.term && r.holder == db.holder)) &&
    (!VERSION || r.version == db.version) &&
    (!CAS || r.expected == db.watermark) &&
    (!EARLY || r.until <= now || r.expected == UNPLANNED);

  t = FIRST(r);
  do
  :: UNIQUE && t <= r.until -> fits = fits && db.lines[t] == 0; t++
  :: else -> break
  od;

  if
  :: fits ->
     outdated = r.edition != db.edition;
     assert(!outdated);
     term_went_back = r.term < db.newest_term;
     assert(!term_went_back);
     early = r.until > now && r.expected != UNPLANNED;
     assert(!early);

     db.watermark = r.until + 1;
     db.newest_term = r.term;
     t = FIRST(r);
     do
     :: t <= r.until ->
        doubled = db.lines[t] > 0;
        assert(!doubled);
        db.lines[t] = 1;
        t++
     :: else -> break
     od
  :: else
  fi;
  t = 0;
  fits = false
}

inline copy(to, from) {
  to.term = from.term;
  to.holder = from.holder;
  to.version = from.version;
  to.planned_from = from.planned_from;
  to.watermark = from.watermark;
  to.edition = from.edition;
  to.newest_term = from.newest_term;
  t = 1;
  do
  :: t <= TICKS -> to.lines[t] = from.lines[t]; t++
  :: else -> break
  od;
  t = 0
}

inline forget(r) {
  r.sent = false;
  r.term = 0;
  r.holder = 0;
  r.version = 0;
  r.edition = 0;
  r.expected = 0;
  r.until = 0
}

inline edit_definition() {
  edition++;
  db.edition = edition;
  db.version++
}

/* What was due and undecided gets the line "superseded"; the next ticks are planned from now on. */
inline move_ticks() {
  t = LAST_TICK + 1;
  do
  :: t <= now -> db.lines[t] = 1; t++
  :: else -> break
  od;
  db.planned_from = (AFTER && LAST_TICK > now -> LAST_TICK : now);
  db.watermark = UNPLANNED
}

/* From wherever trouble has led, a scheduler that is left alone decides all that is due. */
inline one_undisturbed_pass() {
  take_lease(0);
  if
  :: db.watermark == UNPLANNED -> read(own, db.term, 0); execute(own)
  :: else
  fi;
  if
  :: db.watermark <= TICKS -> read(own, db.term, 0); own.until = TICKS; execute(own)
  :: else
  fi;
  t = 1;
  do
  :: t <= TICKS -> missing = db.lines[t] == 0; assert(!missing); t++
  :: else -> break
  od;
  forget(own);
  t = 0
}

/* Reading and sending are one step: a pause between them is a delay on the way. */
active [SCHEDULERS] proctype scheduler() {
  byte my_term;

end:
  do
  :: d_step {
       !calm && terms < TERMS && (terms > 0 || _pid == 0) -> /* either may be the first: name it 0 */
       terms++;
       take_lease(_pid);
       my_term = db.term
     }
  :: atomic {
       !calm && my_term && db.watermark <= TICKS ->
       i = 0;
       do /* the request that it replaces is lost, if it has not been executed */
       :: i < FLIGHTS - 1 -> i++
       :: break
       od;
       read(request[i], my_term, _pid);
       do /* by its own clock, which may be wrong, any later tick may be due as well */
       :: request[i].expected != UNPLANNED && request[i].until < TICKS -> request[i].until++
       :: break
       od;
       i = 0
     }
  od
}

/* Executes what was sent at any later time: once, several times, or never. */
active [FLIGHTS] proctype courier() {
end:
  do
  :: d_step {
       MINE.sent ->
       execute(MINE);
       if
       :: !RETRY -> forget(MINE)
       :: else
       fi
     }
  od
}

/* Time passes, admins edit, the database falls back to an earlier state. */
active proctype world() {
end:
  do
  :: d_step { !calm && now < TICKS -> now++ }
  :: d_step { !calm && now > 0 && setbacks < SETBACKS -> setbacks++; now-- }
  :: atomic { !calm && edits < EDITS ->
       edits++;
       if
       :: edit_definition()
       :: edit_definition(); move_ticks()
       fi
     }
  :: d_step { !calm && FAILOVERS && !copied -> copied = true; copy(standby, db) }
  :: d_step { !calm && copied && !failed_over -> failed_over = true; copy(db, standby); copy(standby, blank) }
  :: d_step { !calm && now == TICKS -> calm = true; one_undisturbed_pass() }
  od
}
