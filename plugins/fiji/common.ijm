// Functions that all CellScribble commands share: fiji-install copies them into each.
// Plain ImageJ 1.53 and Fiji run this alike; no update site, no jar.

// What a macro that called a command asks for: call("ij.Prefs.get", "cellscribble.result", "") is the path of
// what was made, or empty, and then "cellscribble.error" says why.

var by_macro = false;
// A folder of the command's own, gone when it ends.
var temporary = "";

// `known`: the command's options, as Annotate and the others have them: minutes# a number, rois! without a value, others texts.
function begin(known) {
    // Asked now, since each run() below changes the answer. Joined to a text, since ImageJ compares Java's null with none.
    options = "" + call("ij.Macro.getOptions");
    if (options != "null") by_macro = true;
    call("ij.Prefs.set", "cellscribble.result", "");
    call("ij.Prefs.set", "cellscribble.error", "");
    if (by_macro) check_options(options, known);
    // Without ImageJ's own window nobody sees a dialog, and it would wait for ever.
    window = "" + call("ij.IJ.getInstance");
    if (!by_macro && window == "null") {
        by_macro = true;
        fail("this ImageJ has no window to ask in; give options, as the macro recorder writes them");
    }
}

// A macro's options, before ImageJ's Dialog reads them: of a number that is none it makes a window, which stops a macro, and
// it takes no notice of a word that it does not know.
function check_options(options, known) {
    at = 0;
    n = lengthOf(options);
    while (at < n) {
        end = at;
        while (end < n && indexOf("= ", substring(options, end, end + 1)) < 0) end++;
        key = substring(options, at, end);
        value = "";
        with_value = end < n && substring(options, minOf(end, n - 1), minOf(end, n - 1) + 1) == "=";
        if (with_value) {
            at = end + 1;
            end = end_of_value(options, at);
            value = substring(options, at, end);
            if (startsWith(value, "[") && !endsWith(value, "]"))
                fail("the bracket of " + key + "=" + replace(value, " +$", "") + " is not closed; end the text with ]");
        }
        if (key != "" || with_value) check_option(key, with_value, value, known);
        at = end + 1;
    }
}

// Behind a value: a word, or a text in brackets, which may hold others.
function end_of_value(options, at) {
    n = lengthOf(options);
    depth = 0;
    bracket = at < n && startsWith(substring(options, at), "[");
    for (; at < n; at++) {
        c = substring(options, at, at + 1);
        if (c == "[") depth++;
        if (c == "]") depth--;
        if (!bracket && c == " ") return at;
        if (bracket && depth == 0) return at + 1;
    }
    return n;
}

function check_option(key, with_value, value, known) {
    words = " " + known + " ";
    is_number = indexOf(words, " " + key + "# ") >= 0;
    is_text = indexOf(words, " " + key + " ") >= 0;
    if (indexOf(words, " " + key + "! ") >= 0) {
        if (with_value) fail(key + "=" + value + " is not understood; write the word " + key + " alone for yes, leave it out for no");
    } else if (key == "" || !is_number && !is_text) {
        fail("'" + key + "' is no option of this command, which has: " + replace(known, "[#!]", "") + "; a text with spaces stands in [ ]");
    } else if (!with_value) {
        fail(key + " has no value; write " + key + "=... or leave it out");
    } else if (is_number && isNaN(parseFloat(value))) {
        fail(key + "=" + value + " is no number; write digits, such as " + key + "=5");
    }
}

// The dialog's next number, which must be above 0.
function next_number(name) {
    value = Dialog.getNumber();
    if (isNaN(value)) fail(name + " is no number; write digits, such as 5");
    if (value <= 0) fail(name + " must be a number above 0, not " + value);
    return value;
}

// Ends a command that went well; `path` is what it made, "" where nothing stays but what is open.
function done(path) {
    if (temporary != "") remove_folder(temporary);
    call("ij.Prefs.set", "cellscribble.result", path);
}

// Ends the command with one line: in a window for a person, in the log for a macro, which no window may stop.
function fail(message) {
    if (temporary != "") remove_folder(temporary);
    call("ij.Prefs.set", "cellscribble.error", message);
    showStatus("CellScribble: " + message);
    if (by_macro) {
        print("ERROR CellScribble: " + message);
        exit();
    }
    exit(in_lines("CellScribble: " + message));
}

// A text for ImageJ's window, which is as wide as its longest line, also where the screen is not.
function in_lines(text) {
    words = split(text, " ");
    wrapped = "";
    width = 0;
    for (i = 0; i < words.length; i++) {
        if (width > 0 && width + lengthOf(words[i]) > 90) {
            wrapped = wrapped + "\n";
            width = 0;
        } else if (width > 0) wrapped = wrapped + " ";
        wrapped = wrapped + words[i];
        width = width + lengthOf(words[i]) + 1;
    }
    return wrapped;
}

// What stands after OK in the last line of the program's answer.
function answer_of(text) {
    lines = split(text, "\n\r");
    last = "";
    for (i = 0; i < lines.length; i++)
        if (lengthOf(lines[i]) > 0) last = lines[i];
    if (startsWith(last, "OK ")) return substring(last, 3);
    if (last == "OK") return "";
    if (startsWith(last, "ERROR ")) fail(substring(last, 6));
    if (startsWith(last, "Cannot run program"))
        fail("the program " + python + " is not there or may not be run; type `cellscribble fiji-install` with your Fiji folder again");
    fail("the program ended without an answer (" + last + "); look into the newest cellscribble log in the temporary folder, or type `cellscribble doctor`");
}

// A text as a file name on any system.
function file_name(title) {
    title = replace(title, "\\.ome\\.tiff?$", "");
    title = replace(title, "\\.(tiff?|png|jpe?g|bmp|lsm)$", "");
    return replace(title, "[/\\\\:*?\"<>|\t\n]", "_");
}

// The same short enough that _labels.tif fits behind it; a title has no end.
function result_name(title) {
    name = file_name(title);
    return substring(name, 0, minOf(150, lengthOf(name)));
}

// A path as it was typed: without a separator at its end, and from the root on.
function full_path(path) {
    if (path == "") return "";
    if (!matches(path, "(/|\\\\|[A-Za-z]:).*")) path = call("java.lang.System.getProperty", "user.dir") + File.separator + path;
    return "" + no_separator(path);
}

function no_separator(folder) {
    while (lengthOf(folder) > 1 && (endsWith(folder, "/") || endsWith(folder, "\\")))
        folder = substring(folder, 0, lengthOf(folder) - 1);
    return folder;
}

function make_temporary() {
    folder = getDirectory("temp");
    if (!endsWith(folder, File.separator)) folder = folder + File.separator;
    folder = folder + "cellscribble_" + d2s(getTime(), 0) + "_" + d2s(floor(random * 1000000), 0);
    File.makeDirectory(folder);
    if (!File.isDirectory(folder)) fail("the temporary folder " + folder + " cannot be made; free some space there");
    temporary = folder + File.separator;
}

function remove_folder(folder) {
    files = getFileList(folder);
    for (i = 0; i < files.length; i++) {
        if (endsWith(files[i], "/")) remove_folder(folder + files[i]);
        else ok = File.delete(folder + files[i]);
    }
    // getFileList leaves hidden files out; these are a Zarr store's.
    hidden = newArray(".zattrs", ".zarray", ".zgroup");
    for (i = 0; i < hidden.length; i++)
        if (File.exists(folder + hidden[i])) ok = File.delete(folder + hidden[i]);
    ok = File.delete(folder);
}

// Model and image may be of other scales: asked by Predict and by Suggest regions.
function ask_pixel_size() {
    Dialog.addChoice("Pixel size unlike the model's", newArray("stop", "rescale", "ignore"), "stop");
}

// The same for the program. exec() takes a fixed number of words, so `stop` is one that changes nothing.
function pixel_size_word(choice, stop) {
    if (choice == "stop") return stop;
    if (choice == "rescale") return "--rescale";
    if (choice == "ignore") return "--ignore-pixel-size";
    fail("a pixel size unlike the model's cannot be met by '" + choice + "'; choose stop, rescale or ignore");
}

// The open image (its selection's rectangle, its present time point) as a file of its own.
function save_copy(image, path, channels, slices, frames) {
    selectImage(image);
    Stack.getPosition(channel, slice, frame);
    // A line or point means nothing here, and Duplicate would take its surroundings only.
    aside = false;
    if (selectionType() >= 0 && !is_area(selectionType())) {
        aside = true;
        run("Select None");
    }
    ranges = "";
    if (frames > 1) {
        ranges = " channels=1-" + channels + " slices=1-" + slices + " frames=" + frame;
        // A series of single planes may be a plain stack to ImageJ, which knows no frames.
        if (!Stack.isHyperstack) ranges = " range=" + frame + "-" + frame;
    }
    run("Duplicate...", "title=cellscribble_input duplicate" + ranges);
    run("Select None");
    run("Remove Overlay");
    saveAs("Tiff", path);
    close();
    selectImage(image);
    if (aside) run("Restore Selection");
}

function is_area(type) {
    if ((type >= 0 && type <= 4) || type == 9) return true;
    return false;
}

// Objects 1, 2, 3 ... in colours far from each other, background black.
function colour_labels() {
    reds = newArray(256); greens = newArray(256); blues = newArray(256);
    for (i = 0; i < 256; i++) {
        reds[i] = parseInt(substring(label_colours, 6 * i, 6 * i + 2), 16);
        greens[i] = parseInt(substring(label_colours, 6 * i + 2, 6 * i + 4), 16);
        blues[i] = parseInt(substring(label_colours, 6 * i + 4, 6 * i + 6), 16);
    }
    if (nSlices > 1) Stack.getStatistics(area, mean, lowest, highest);
    else getStatistics(area, mean, lowest, highest);
    setLut(reds, greens, blues);
    // One colour a number up to 255; above, numbers that are near each other share one.
    setMinAndMax(0, maxOf(255, highest));
    return highest;
}

// ROIs of a label file into the ROI Manager, made by Python: exact, and fast.
function show_rois(labels, image) {
    selectImage(image);
    if (maxOf(getWidth(), getHeight()) > 60535) {
        print("CellScribble: ImageJ's ROIs end at 60,535 px, this image does not; `cellscribble rois LABELS ROIS.zip` writes them as tiles");
        return;
    }
    zip = temporary + "rois.zip";
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "rois", labels, zip));
    fill_manager(zip, image);
    roiManager("show all without labels");
}

// The ROI Manager with the ROIs of a zip, and what was in it saved.
function fill_manager(zip, image) {
    if (roiManager("count") > 0) {
        // They may be a person's work.
        kept = getDirectory("temp") + "cellscribble_rois_before_" + d2s(getTime(), 0) + ".zip";
        roiManager("deselect");
        roiManager("save", kept);
        print("CellScribble: the ROI Manager's ROIs were saved to " + kept);
        roiManager("reset");
    }
    selectImage(image);
    open_rois(zip);
    selectImage(image);
}

// A zip of ROIs into the ROI Manager. The Manager's own "open" writes itself into the macro recorder, behind the line of the command;
// ImageJ's open() does not, but it knows no Manager without a window, and no zip whose first entry is no ROI.
function open_rois(zip) {
    // Where there is none, this opens one.
    n = roiManager("count");
    if (isOpen("ROI Manager") && indexOf(File.openAsRawString(zip, 1000), ".roi") >= 0) open(zip);
    // Also where another program has put itself before open(), as in Fiji SCIFIO may.
    if (roiManager("count") == n) roiManager("open", zip);
}

// A label file that ImageJ opens: it knows neither 32-bit integers, which hold more than 65,535 objects, nor tiles.
function readable(path) {
    if (indexOf(File.openAsRawString(path, 1000), "ImageJ=") >= 0) return path;
    return "" + answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "rois", path, temporary + "readable.tif"));
}

// In the labels that were shown last, which are numbered without gaps.
var n_objects = 0;

// Opens labels that Python wrote as they are best seen; `image` (0: none) is what their ROIs are shown on.
function open_labels(path, image, with_rois) {
    open("" + readable(path));
    labels = getImageID();
    rename(File.getName(path));
    highest = colour_labels();
    n_objects = highest;
    if (image == 0) image = labels;
    if (with_rois && highest > 0) show_rois(path, image);
    selectImage(labels);
}

// Whether ImageJ can open an image file. Where its open() cannot, a window says so, for which a macro would wait.
function can_open(path) {
    // Fiji's Bio-Formats reads most of what ImageJ itself does not.
    List.setCommands;
    if (List.get("Bio-Formats Importer") != "") return true;
    format = "" + call("ij.io.Opener.getFileFormat", path);
    if (format == "unknown") return false;
    if (format != "tif") return true;
    // Null for tiles, and for a file that is damaged.
    inside = "" + call("ij.io.Opener.getTiffFileInfo", path);
    if (inside == "null") return false;
    return true;
}

var label_colours =
    "000000ff333300ff005500ff00ffffeeaaffffdd55006600ff00ddaa77660077aa0055dd99ff99bb1166ffffffccff00" +
    "ff88000088777744888877119933118811aaaabb8855bb00ff77776699ffaaccffeeaa66ff66cc00cc99ffbbcc555555" +
    "cc00ff88cccc00ff77bb77ffffffaa99bb44ff0066556633bb66889988aa00bb550055aabbffcc5533dd00ccffbb7700" +
    "aa0088aa0033559955bbff66ffee00ff7744ff0099775522eeccaaeeaa00ff669900ffaabbcc11774455dd55ffff5500" +
    "ccbb66aaaaaa7766cceeccff77ee113399aaaa55bbff99cc9944447777bb00663366bb99bb2200449922998855ffaa99" +
    "445577eeff77bb77bb668877bbaa22bb6644aadd88557700bb550044aaee993377116677ddeecc00ccddff77ff77ffdd" +
    "cc22bb77ee668899449922dd11dd33dd4444aa7733ee889999ffffdd66aaff00007744ccff9944aaaaeecc5566ddccdd" +
    "0077ee99dd1100ccbbbb88ee77ffbb993355ff11bb66cc777799bbffdd99bbeeff7777ffeeff44bb8899887777ee1144" +
    "dd3366ff00ff775544eebb550055ff88440088bb11ee88ee7733ff99dd66ffcc0000aa66dd3399667788ee8855665588" +
    "7733990088ddbb00ccccaa77ccdd7700aa22336655cc55339955ff889900779966ee0077cc99ccddcc00995588008833" +
    "99bbccaa44dd77ddaaaa880066bbddccccbb00aaaaccffeeccaa99cc8866aaddbb11dd6600ffccdd55ccdd55001166aa" +
    "ccff88777755ccdd990033ff77ddcccc0022665500dd999977773388bb779966bb77ff5599bbaabb994400885500aa88" +
    "aa2222669900eedd779900ffcccc4488442277bb55bbdd5533dd88dd22005544aaee8877dd7711bb4477886688447733" +
    "99119988dd4466cc551177779988dd33ff44ff44666655eebb4499aaff22999977669933ddffaacc7777883388556611" +
    "bb4444aaaaccffdddd7788bbaaaa66aaaa44555533dd99223377559966775555aa0099cc9988ff665566ffeebb66aaff" +
    "ffbbee00bb00ccaabbff44dd559977446666dd22aadd88aa99660066ff88cc55dd5577cc77ddee77aaaadd4488ff4499";