/* print, console, and std: files and the standard streams, by the names that QuickJS's own host
 * gives them. Files are opened relative to the root, where a task's files are.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

#define LENGTH(list) (int)(sizeof(list) / sizeof *(list))
#define CHUNK 65536

static JSClassID file_class;

/* Bytes that grow. After a failure `data` is NULL for good. */
struct bytes {
    char *data;
    size_t size, room;
};

static int bytes_reserve(struct bytes *bytes, size_t more)
{
    if (bytes->room - bytes->size > more)
        return 0;
    size_t room = 2 * bytes->room > bytes->size + more ? 2 * bytes->room : bytes->size + more + 1;
    char *data = realloc(bytes->data, room);
    if (!data) {
        free(bytes->data);
        *bytes = (struct bytes){ 0 };
        return -1;
    }
    bytes->data = data;
    bytes->room = room;
    return 0;
}

/* Read up to `most` bytes to the end of the file, or to the end of a line. */
static int bytes_read(struct bytes *bytes, FILE *file, size_t most, int line)
{
    int byte;
    if (bytes_reserve(bytes, 0))
        return -1;
    while (line && bytes->size < most && (byte = getc(file)) != EOF) {
        if (bytes_reserve(bytes, 1))
            return -1;
        bytes->data[bytes->size++] = (char)byte;
        if (byte == '\n')
            break;
    }
    while (!line && bytes->size < most) {
        size_t wanted = most - bytes->size < CHUNK ? most - bytes->size : CHUNK;
        if (bytes_reserve(bytes, wanted))
            return -1;
        size_t got = fread(bytes->data + bytes->size, 1, wanted, file);
        bytes->size += got;
        if (got < wanted)
            break;
    }
    bytes->data[bytes->size] = 0;
    return ferror(file) ? -1 : 0;
}

char *files_read(const char *path, size_t *size)
{
    struct bytes bytes = { 0 };
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    int failed = bytes_read(&bytes, file, SIZE_MAX / 2, 0);
    fclose(file);
    if (failed) {
        free(bytes.data);
        return NULL;
    }
    *size = bytes.size;
    return bytes.data;
}

static JSValue print(JSContext *context, JSValueConst self, int count, JSValueConst *given, int to)
{
    FILE *file = to == 2 ? stderr : stdout;
    (void)self;
    for (int i = 0; i < count; i++) {
        size_t size;
        const char *text = JS_ToCStringLen(context, &size, given[i]);
        if (!text)
            return JS_EXCEPTION;
        if (i)
            putc(' ', file);
        fwrite(text, 1, size, file);
        JS_FreeCString(context, text);
    }
    putc('\n', file);
    return JS_UNDEFINED;
}

static int is_standard(FILE *file)
{
    return file == stdin || file == stdout || file == stderr;
}

static void file_finalize(JSRuntime *runtime, JSValue object)
{
    FILE *file = JS_GetOpaque(object, file_class);
    (void)runtime;
    if (file && !is_standard(file))
        fclose(file);
}

static JSValue file_object(JSContext *context, FILE *file)
{
    JSValue object = JS_NewObjectClass(context, (int)file_class);
    if (!JS_IsException(object))
        JS_SetOpaque(object, file);
    return object;
}

static FILE *file_of(JSContext *context, JSValueConst object)
{
    FILE *file = JS_GetOpaque(object, file_class);
    if (!file)
        JS_ThrowTypeError(context, "this is no open file");
    return file;
}

static JSValue file_close(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    FILE *file = file_of(context, self);
    (void)count, (void)given;
    if (!file)
        return JS_EXCEPTION;
    JS_SetOpaque(self, NULL);
    return JS_NewInt32(context, fclose(file) ? -errno : 0);
}

static JSValue file_puts(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    FILE *file = file_of(context, self);
    for (int i = 0; file && i < count; i++) {
        size_t size;
        const char *text = JS_ToCStringLen(context, &size, given[i]);
        if (!text)
            return JS_EXCEPTION;
        fwrite(text, 1, size, file);
        JS_FreeCString(context, text);
    }
    return file ? JS_UNDEFINED : JS_EXCEPTION;
}

/* getline: the next line without its end, null after the last. readAsString: all, or up to n. */
static JSValue file_text(JSContext *context, JSValueConst self, int count, JSValueConst *given,
                         int line)
{
    FILE *file = file_of(context, self);
    struct bytes bytes = { 0 };
    double most = (double)(SIZE_MAX / 2);
    if (!file)
        return JS_EXCEPTION;
    if (!line && count && !JS_IsUndefined(given[0]) && JS_ToFloat64(context, &most, given[0]))
        return JS_EXCEPTION;
    if (!(most >= 0) || most > (double)(SIZE_MAX / 2))
        return JS_ThrowRangeError(context, "a file is read up to a number of bytes");
    if (bytes_read(&bytes, file, (size_t)most, line) && !bytes.data)
        return JS_ThrowOutOfMemory(context);
    JSValue text = JS_NULL;
    if (!line || bytes.size) {
        int ended = line && bytes.data[bytes.size - 1] == '\n';
        text = JS_NewStringLen(context, bytes.data, bytes.size - (size_t)ended);
    }
    free(bytes.data);
    return text;
}

/* The bytes of an ArrayBuffer or a typed array; NULL with an exception if it is none. */
static uint8_t *buffer_of(JSContext *context, JSValueConst value, size_t *size)
{
    size_t offset, whole, width;
    JSValue buffer = JS_GetTypedArrayBuffer(context, value, &offset, size, &width);
    if (JS_IsException(buffer)) {
        JS_FreeValue(context, JS_GetException(context));
        return JS_GetArrayBuffer(context, size, value);
    }
    uint8_t *data = JS_GetArrayBuffer(context, &whole, buffer);
    JS_FreeValue(context, buffer); /* `value` holds it. */
    return data ? data + offset : NULL;
}

/* read(buffer, position, length) and write likewise: how many bytes were moved. */
static JSValue file_move(JSContext *context, JSValueConst self, int count, JSValueConst *given,
                         int write)
{
    FILE *file = file_of(context, self);
    size_t size;
    uint8_t *data = file ? buffer_of(context, given[0], &size) : NULL;
    uint64_t position = 0, length;
    if (!data)
        return JS_EXCEPTION;
    if (count > 1 && JS_ToIndex(context, &position, given[1]))
        return JS_EXCEPTION;
    length = size - position;
    if (count > 2 && JS_ToIndex(context, &length, given[2]))
        return JS_EXCEPTION;
    if (position > size || length > size - position)
        return JS_ThrowRangeError(context, "the buffer ends before that");
    size_t moved = write ? fwrite(data + position, 1, (size_t)length, file)
                         : fread(data + position, 1, (size_t)length, file);
    return JS_NewInt64(context, (int64_t)moved);
}

static JSValue file_seek(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    FILE *file = file_of(context, self);
    int64_t offset;
    int from;
    (void)count;
    if (!file || JS_ToInt64(context, &offset, given[0]) || JS_ToInt32(context, &from, given[1]))
        return JS_EXCEPTION;
    return JS_NewInt32(context, fseeko(file, offset, from) ? -errno : 0);
}

enum { TELL, AT_END, FLUSH, GET_BYTE };

static JSValue file_ask(JSContext *context, JSValueConst self, int count, JSValueConst *given,
                        int what)
{
    FILE *file = file_of(context, self);
    (void)count, (void)given;
    if (!file)
        return JS_EXCEPTION;
    switch (what) {
    case TELL:
        return JS_NewInt64(context, ftello(file));
    case AT_END:
        return JS_NewBool(context, feof(file));
    case FLUSH:
        return JS_NewInt32(context, fflush(file) ? -errno : 0);
    default:
        return JS_NewInt32(context, getc(file));
    }
}

static JSValue file_put_byte(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    FILE *file = file_of(context, self);
    int byte;
    (void)count;
    if (!file || JS_ToInt32(context, &byte, given[0]))
        return JS_EXCEPTION;
    return JS_NewInt32(context, putc(byte, file));
}

static const JSCFunctionListEntry file_methods[] = {
    JS_CFUNC_DEF("close", 0, file_close),
    JS_CFUNC_DEF("puts", 1, file_puts),
    JS_CFUNC_MAGIC_DEF("readAsString", 1, file_text, 0),
    JS_CFUNC_MAGIC_DEF("getline", 0, file_text, 1),
    JS_CFUNC_MAGIC_DEF("read", 3, file_move, 0),
    JS_CFUNC_MAGIC_DEF("write", 3, file_move, 1),
    JS_CFUNC_DEF("seek", 2, file_seek),
    JS_CFUNC_MAGIC_DEF("tell", 0, file_ask, TELL),
    JS_CFUNC_MAGIC_DEF("eof", 0, file_ask, AT_END),
    JS_CFUNC_MAGIC_DEF("flush", 0, file_ask, FLUSH),
    JS_CFUNC_MAGIC_DEF("getByte", 0, file_ask, GET_BYTE),
    JS_CFUNC_DEF("putByte", 1, file_put_byte),
};

/* The file, or null if it cannot be opened. */
static JSValue std_open(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    const char *path = JS_ToCString(context, given[0]);
    const char *mode = count > 1 ? JS_ToCString(context, given[1]) : "r";
    JSValue result = JS_EXCEPTION;
    (void)self;
    if (path && mode) {
        FILE *file = fopen(path, mode);
        result = file ? file_object(context, file) : JS_NULL;
    }
    if (count > 1)
        JS_FreeCString(context, mode);
    JS_FreeCString(context, path);
    return result;
}

/* A whole file as text, or null if it cannot be read. */
static JSValue std_load(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    size_t size;
    const char *path = JS_ToCString(context, given[0]);
    (void)self, (void)count;
    if (!path)
        return JS_EXCEPTION;
    char *data = files_read(path, &size);
    JS_FreeCString(context, path);
    JSValue text = data ? JS_NewStringLen(context, data, size) : JS_NULL;
    free(data);
    return text;
}

static JSValue std_exit(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    int code = 0;
    (void)self;
    if (count && JS_ToInt32(context, &code, given[0]))
        return JS_EXCEPTION;
    fflush(NULL);
    _Exit(code);
}

static JSValue std_getenv(JSContext *context, JSValueConst self, int count, JSValueConst *given)
{
    const char *name = JS_ToCString(context, given[0]);
    (void)self, (void)count;
    if (!name)
        return JS_EXCEPTION;
    const char *value = getenv(name);
    JS_FreeCString(context, name);
    return value ? JS_NewString(context, value) : JS_UNDEFINED;
}

static const JSCFunctionListEntry std_functions[] = {
    JS_CFUNC_DEF("open", 2, std_open),
    JS_CFUNC_DEF("loadFile", 1, std_load),
    JS_CFUNC_DEF("exit", 1, std_exit),
    JS_CFUNC_DEF("getenv", 1, std_getenv),
    JS_PROP_INT32_DEF("SEEK_SET", SEEK_SET, 0),
    JS_PROP_INT32_DEF("SEEK_CUR", SEEK_CUR, 0),
    JS_PROP_INT32_DEF("SEEK_END", SEEK_END, 0),
};

static const JSCFunctionListEntry console_functions[] = {
    JS_CFUNC_MAGIC_DEF("log", 1, print, 1),   JS_CFUNC_MAGIC_DEF("info", 1, print, 1),
    JS_CFUNC_MAGIC_DEF("debug", 1, print, 1), JS_CFUNC_MAGIC_DEF("warn", 1, print, 2),
    JS_CFUNC_MAGIC_DEF("error", 1, print, 2),
};

static const JSCFunctionListEntry global_functions[] = { JS_CFUNC_MAGIC_DEF("print", 1, print, 1) };

static JSValue std_object(JSContext *context)
{
    JSValue std = JS_NewObject(context);
    JS_SetPropertyFunctionList(context, std, std_functions, LENGTH(std_functions));
    JS_SetPropertyStr(context, std, "in", file_object(context, stdin));
    JS_SetPropertyStr(context, std, "out", file_object(context, stdout));
    JS_SetPropertyStr(context, std, "err", file_object(context, stderr));
    return std;
}

int files_install(JSContext *context, JSValueConst global)
{
    static const JSClassDef definition = { "File", .finalizer = file_finalize };
    static char buffer[CHUNK];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer); /* Each write is a call that costs fuel. */
    JS_NewClassID(&file_class);
    if (JS_NewClass(JS_GetRuntime(context), file_class, &definition))
        return -1;
    JSValue methods = JS_NewObject(context);
    JS_SetPropertyFunctionList(context, methods, file_methods, LENGTH(file_methods));
    JS_SetClassProto(context, file_class, methods);
    JSValue console = JS_NewObject(context);
    JS_SetPropertyFunctionList(context, console, console_functions, LENGTH(console_functions));
    JS_SetPropertyFunctionList(context, global, global_functions, LENGTH(global_functions));
    return JS_SetPropertyStr(context, global, "console", console) < 0
        || JS_SetPropertyStr(context, global, "std", std_object(context)) < 0;
}

static const char *const names[] = { "in",   "out",    "err",      "open",     "loadFile",
                                     "exit", "getenv", "SEEK_SET", "SEEK_CUR", "SEEK_END" };

static int fill_module(JSContext *context, JSModuleDef *module)
{
    JSValue std = std_object(context);
    int failed = 0;
    for (int i = 0; i < LENGTH(names) && !failed; i++)
        failed = JS_SetModuleExport(context, module, names[i],
                                    JS_GetPropertyStr(context, std, names[i]));
    JS_FreeValue(context, std);
    return failed;
}

JSModuleDef *files_module(JSContext *context, const char *name)
{
    JSModuleDef *module = JS_NewCModule(context, name, fill_module);
    for (int i = 0; module && i < LENGTH(names); i++)
        if (JS_AddModuleExport(context, module, names[i]))
            return NULL;
    return module;
}
