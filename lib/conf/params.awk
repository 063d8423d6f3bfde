# SPDX-License-Identifier: Apache-2.0
# Makes C from params.def, whose rows come in sorted by name. Variables: mode (table, header, source, page) and for
# header and source reader (the program); for help and page texts (params.text: longer texts, see there).
BEGIN {
    FS = "[ \t]*[|][ \t]+"
    failed = 0
    count = 0
    read_texts()
}

# A line with a name alone begins a text; indented lines are its paragraphs, divided by empty lines.
function read_texts(    line, of, again) {
    if (texts == "")
        return
    while ((getline line < texts) > 0) {
        if (line ~ /^#/)
            continue
        if (line ~ /^[A-Za-z0-9_]+$/) {
            of = line
            again = 0
        } else if (line ~ /^[ \t]*$/) {
            again = 1
        } else {
            sub(/^[ \t]+/, "", line)
            long_text[of] = long_text[of] (long_text[of] == "" ? "" : again ? "\n" : " ") line
            again = 0
        }
    }
    close(texts)
}

/^#/ || /^[ \t]*$/ { next }

{
    if (NF != 7)
        complain("needs 7 fields, has " NF)
    if ($1 !~ /^[A-Za-z0-9_]+$/)
        complain("bad name")
    if (count > 0 && $1 == name[count - 1])
        complain("is there twice")
    name[count] = $1
    split($2, words, " ")
    kind[count] = words[1]
    unit[count] = "s"
    range = words[2]
    if (words[1] == "time") {
        unit[count] = words[2]
        range = words[3]
    }
    if (words[1] !~ /^(bool|int|time|string|choice|raw)$/)
        complain("unknown type " words[1])
    set_range(count, range)
    text[count] = $3
    readers[count] = " " $4 " "
    since[count] = $5
    status[count] = $6
    help[count] = $7
    if ($6 !~ /^(works|not yet(: .+)?|no effect: .+)$/)
        complain("unknown status")
    reason[count] = sub(/: .*/, "", status[count]) ? substr($6, length(status[count]) + 3) : ""
    count++
}

function complain(what) {
    printf "params.def: %s: %s\n", $1, what > "/dev/stderr"
    failed = 1
}

function set_range(i, range,    ends) {
    low[i] = "INT64_MIN"
    high[i] = "INT64_MAX"
    choices[i] = ""
    if (kind[i] == "choice") {
        choices[i] = range
    } else if (range != "") {
        if (split(range, ends, /\.\./) != 2)
            complain("bad range " range)
        if (ends[1] != "")
            low[i] = ends[1]
        if (ends[2] != "")
            high[i] = ends[2]
    }
}

# Every awk has its own idea of backslashes in a replacement: byte by byte, then.
function escaped(s,    out, c, j) {
    out = ""
    for (j = 1; j <= length(s); j++) {
        c = substr(s, j, 1)
        if (c == "\\" || c == "\"" || c == "?")
            out = out "\\"
        if (c == "\n")
            c = "\\n"
        out = out c
    }
    return out
}

# text as a C string literal; @x@ of configure as its macro
function literal(s) {
    s = "\"" escaped(s) "\""
    gsub(/@command_directory@/, "\" DEF_COMMAND_DIR \"", s)
    gsub(/@config_directory@/, "\" DEF_CONFIG_DIR \"", s)
    gsub(/@daemon_directory@/, "\" DEF_DAEMON_DIR \"", s)
    gsub(/@data_directory@/, "\" DEF_DATA_DIR \"", s)
    gsub(/@queue_directory@/, "\" DEF_QUEUE_DIR \"", s)
    gsub(/@manpage_directory@/, "\" DEF_MANPAGE_DIR \"", s)
    gsub(/@sendmail_path@/, "\" DEF_SENDMAIL_PATH \"", s)
    gsub(/@mailq_path@/, "\" DEF_MAILQ_PATH \"", s)
    gsub(/@newaliases_path@/, "\" DEF_NEWALIASES_PATH \"", s)
    gsub(/@version@/, "\" PACKAGE_VERSION \"", s)
    return s
}

function member(s) {
    return s ~ /^[0-9]/ ? "p_" s : s
}

function is_read(i) {
    return index(readers[i], " " reader " ") > 0
}

function c_type(i) {
    if (kind[i] == "bool")
        return "bool "
    if (kind[i] == "int")
        return "int64_t "
    if (kind[i] == "time")
        return "usec_t "
    return "const char *"
}

function print_header(    i, guard) {
    guard = "LIB_CONF_SETTINGS_" toupper(reader) "_H"
    printf "/* Made from lib/conf/params.def: the parameters that %s reads. */\n", reader
    printf "#ifndef %s\n#define %s\n\n#include <stdbool.h>\n#include <stdint.h>\n\n", guard, guard
    printf "#include \"lib/base/clock.h\"\n#include \"lib/conf/conf.h\"\n\nstruct %s_settings {\n", reader
    for (i = 0; i < count; i++)
        if (is_read(i))
            printf "    %s%s; /* %s */\n", c_type(i), member(name[i]), help[i]
    printf "};\n\n/* Values from conf, expanded and checked; texts live in the arena, which is usually the process's. */\n"
    printf "int %s_settings_load(struct %s_settings *, const struct conf *, struct arena *, struct err *) MUST_USE;\n\n", reader, reader
    printf "#endif\n"
}

function print_source(    i) {
    printf "/* Made from lib/conf/params.def. */\n#include \"lib/conf/settings_%s.h\"\n\n#include <stddef.h>\n\n", reader
    printf "#include \"lib/conf/settings.h\"\n\nstatic const struct settings_field fields[] = {\n"
    for (i = 0; i < count; i++)
        if (is_read(i))
            printf "    {%d, offsetof(struct %s_settings, %s)},\n", i, reader, member(name[i])
    printf "};\n\nint\n%s_settings_load(struct %s_settings *settings, const struct conf *conf, struct arena *arena, struct err *err)\n{\n", reader, reader
    printf "    return settings_load(conf, arena, fields, sizeof(fields) / sizeof(*fields), settings, err);\n}\n"
}

# Texts stand in one struct and rows hold offsets into it: no pointers, so nothing needs relocating and every process
# that runs the program shares the pages.
function print_table(    i, s) {
    printf "/* Made from lib/conf/params.def. */\n#include \"lib/conf/param_table.h\"\n\n#include <stddef.h>\n#include <stdint.h>\n\n"
    printf "struct texts {\n    char none[1];\n"
    for (i = 0; i < count; i++) {
        printf "    char n%d[sizeof(%s)];\n", i, literal(name[i])
        if (text[i] != "")
            printf "    char t%d[sizeof(%s)];\n", i, literal(text[i])
        if (choices[i] != "")
            printf "    char w%d[sizeof(%s)];\n", i, literal(choices[i])
        if (reason[i] != "")
            printf "    char r%d[sizeof(%s)];\n", i, literal(reason[i])
    }
    printf "};\n\nstatic const struct texts texts = {\n    \"\",\n"
    for (i = 0; i < count; i++) {
        printf "    %s,\n", literal(name[i])
        if (text[i] != "")
            printf "    %s,\n", literal(text[i])
        if (choices[i] != "")
            printf "    %s,\n", literal(choices[i])
        if (reason[i] != "")
            printf "    %s,\n", literal(reason[i])
    }
    printf "};\n\nconst char *const param_texts = (const char *)&texts;\n\nconst struct param_row param_rows[] = {\n"
    for (i = 0; i < count; i++) {
        s = status[i] == "works" ? "PARAM_WORKS" : status[i] == "not yet" ? "PARAM_NOT_YET" : "PARAM_NO_EFFECT"
        printf "    {offsetof(struct texts, n%d), %s, %s, %s, PARAM_%s, %s, '%s', %s, %s},\n", i,
            text[i] == "" ? "0" : "offsetof(struct texts, t" i ")",
            choices[i] == "" ? "0" : "offsetof(struct texts, w" i ")",
            reason[i] == "" ? "0" : "offsetof(struct texts, r" i ")",
            toupper(kind[i]), s, unit[i], low[i], high[i]
    }
    printf "};\n\nconst unsigned param_row_count = %d;\n", count
}

# What people are told. The order is that of the table.
function print_helps(    i) {
    printf "/* Made from lib/conf/params.def and params.text. */\n#include \"lib/conf/param_help.h\"\n\n"
    printf "const struct param_help param_helps[] = {\n"
    for (i = 0; i < count; i++) {
        s = readers[i]
        sub(/^ /, "", s)
        sub(/ $/, "", s)
        printf "    {%s, %s, %s,\n     %s},\n", literal(s), literal(since[i]), literal(help[i]), literal(long_text[name[i]])
    }
    printf "};\n"
}

# Text for the manual page: backslashes, hyphens and leading dots mean something else to the formatter.
function page_text(s,    out, c, j) {
    out = s ~ /^[.']/ ? "\\&" : ""
    for (j = 1; j <= length(s); j++) {
        c = substr(s, j, 1)
        if (c == "\\")
            c = "\\e"
        else if (c == "-")
            c = "\\-"
        out = out c
    }
    return out
}

function page_default(s) {
    if (s == "")
        return "empty"
    if (s == "@hostname@")
        return "the host's name"
    if (s == "@domain@")
        return "what follows the first dot of myhostname, or localdomain"
    if (s == "@networks@")
        return "this host's networks, as mynetworks_style says"
    if (s ~ /@/)
        return "see \"postconf \\-d\""
    return page_text(s)
}

function page_kind(i) {
    if (kind[i] == "bool")
        return "yes or no"
    if (kind[i] == "int")
        return "number" page_range(i)
    if (kind[i] == "time")
        return "time in " unit[i] page_range(i)
    if (kind[i] == "choice")
        return page_text(choices[i])
    return ""
}

function page_range(i,    s) {
    s = ""
    if (low[i] != "INT64_MIN" && low[i] != 0)
        s = s ", from " page_text(low[i])
    if (high[i] != "INT64_MAX")
        s = s ", up to " high[i]
    return s
}

function print_entry(i,    s, n, j, paragraphs) {
    s = page_kind(i)
    printf ".TP\n.B %s\n(default: %s%s)\n.br\n%s\n", page_text(name[i]), page_default(text[i]), s == "" ? "" : "; " s, page_text(help[i])
    if (since[i] == "ours")
        printf "Postfix does not have this parameter.\n"
    if (long_text[name[i]] != "") {
        n = split(long_text[name[i]], paragraphs, "\n")
        for (j = 1; j <= n; j++)
            printf ".sp\n%s\n", page_text(paragraphs[j])
    }
    if (status[i] == "not yet" && reason[i] != "")
        printf ".br\nUntil it works: %s.\n", page_text(reason[i])
    if (readers[i] != " - ")
        printf ".br\nRead by:%s\n", page_text(readers[i])
}

function print_page(    i) {
    printf ".SH PARAMETERS\n"
    for (i = 0; i < count; i++)
        if (status[i] == "works")
            print_entry(i)
    printf ".SH \"PARAMETERS WITHOUT EFFECT\"\nThese are accepted; setting them changes nothing.\n"
    for (i = 0; i < count; i++)
        if (status[i] == "no effect")
            printf ".TP\n.B %s\n%s\n", page_text(name[i]), page_text(reason[i])
    printf ".SH \"PARAMETERS WITHOUT EFFECT YET\"\nThese are known and shown, and will work in a later version (what happens until then stands with those that are not just passed over); \\fBpostfix check\\fR names those that are set.\n"
    for (i = 0; i < count; i++)
        if (status[i] == "not yet")
            print_entry(i)
}

END {
    if (failed)
        exit 1
    if (mode == "table")
        print_table()
    else if (mode == "header")
        print_header()
    else if (mode == "source")
        print_source()
    else if (mode == "help")
        print_helps()
    else if (mode == "page")
        print_page()
}
