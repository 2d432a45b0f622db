// Plugins > CellScribble > CellScribble Show labels
// run("CellScribble Show labels", "labels=[cells_labels.tif] rois");
// Labels: a label image of any kind that CellScribble writes (TIFF, OME-Zarr), or nothing for the open image.

begin("labels rois!");
Dialog.create("CellScribble Show labels");
Dialog.addString("Labels (file; empty: the open image)", "", 30);
Dialog.addCheckbox("ROIs to the ROI Manager", false);
Dialog.show();
labels = full_path(Dialog.getString());
rois = Dialog.getCheckbox();

make_temporary();
if (labels == "") {
    if (nImages == 0) fail("no image is open; open a label image, or give a file as Labels");
    if (bitDepth() == 24) fail("the open image is a colour picture; labels are numbers, one an object, in 8, 16 or 32 bit");
    image = getImageID();
    run("Select None");
    highest = colour_labels();
    if (rois && highest > 0) {
        getDimensions(width, height, channels, slices, frames);
        save_copy(image, temporary + "labels.tif", channels, slices, frames);
        show_rois(temporary + "labels.tif", image);
    }
} else {
    // Python writes them as ImageJ opens them: 32-bit integers, tiles and OME-Zarr it does not.
    made = answer_of(exec(python, "-P", "-m", "cellscribble", "--macro", "rois", labels, temporary + "labels.tif"));
    open_labels(made, 0, rois);
    rename(File.getName(labels));
}
done(labels);

// include common.ijm
