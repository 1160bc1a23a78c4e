// Classifies bitmaps with a file of this bundle: Classifier(assets, "model_int8.tflite").classify(bitmap)
//
// build.gradle.kts:
//   android { androidResources { noCompress += "tflite" } }
//   dependencies {
//     implementation("com.google.ai.edge.litert:litert:1.4.0")
//     implementation("com.google.ai.edge.litert:litert-gpu:1.4.0")  // for a float file on the GPU
//   }
// Put the .tflite files and labels.txt into src/main/assets.

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.Closeable
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

class Classifier(
  assets: AssetManager,
  model: String,
  // Interpreter.Options().addDelegate(GpuDelegate()) for a float file.
  options: Interpreter.Options = Interpreter.Options().setNumThreads(2),
) : Closeable {
  val labels: List<String> =
    assets.open("labels.txt").bufferedReader().use { it.readLines() }

  private val interpreter: Interpreter =
    assets.openFd(model).use { file ->
      FileInputStream(file.fileDescriptor).use { stream ->
        val mode = FileChannel.MapMode.READ_ONLY
        Interpreter(stream.channel.map(mode, file.startOffset, file.declaredLength), options)
      }
    }
  private val input = interpreter.getInputTensorFromSignature("image", "predict")
  private val output = interpreter.getOutputTensorFromSignature("probabilities", "predict")
  private val height = input.shape()[1]
  private val width = input.shape()[2]
  private val channels = input.shape()[3]
  private val pixels = buffer(input.numBytes())
  private val answer = buffer(output.numBytes())

  /** Probability of each class, in the order of [labels]. */
  fun classify(bitmap: Bitmap): FloatArray {
    fill(Bitmap.createScaledBitmap(bitmap, width, height, /* filter = */ true))
    answer.rewind()
    interpreter.runSignature(mapOf("image" to pixels), mapOf("probabilities" to answer), "predict")
    answer.rewind()
    if (output.dataType() == DataType.FLOAT32) return FloatArray(labels.size) { answer.float }
    val quantization = output.quantizationParams()
    return FloatArray(labels.size) {
      quantization.scale * ((answer.get().toInt() and 0xFF) - quantization.zeroPoint)
    }
  }

  private fun fill(bitmap: Bitmap) {
    val colors = IntArray(width * height)
    bitmap.getPixels(colors, 0, width, 0, 0, width, height)
    pixels.rewind()
    for (color in colors) {
      val red = color shr 16 and 0xFF
      val green = color shr 8 and 0xFF
      val blue = color and 0xFF
      if (channels == 1) put((299 * red + 587 * green + 114 * blue + 500) / 1000)
      else { put(red); put(green); put(blue) }
    }
    pixels.rewind()
  }

  private fun put(value: Int) {
    if (input.dataType() == DataType.FLOAT32) pixels.putFloat(value / 255f)
    else pixels.put(value.toByte())
  }

  private fun buffer(bytes: Int): ByteBuffer =
    ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

  override fun close() = interpreter.close()
}
