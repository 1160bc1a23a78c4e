// Classifies images with a file of this bundle: try Classifier(model: "model_int8").classify(image)
//
// Podfile: pod 'TensorFlowLiteSwift'   (for a float file on the GPU also: subspecs: ['CoreML', 'Metal'])
// Add the .tflite files and labels.txt to the app's resources.

import CoreGraphics
import Foundation
import TensorFlowLite

final class Classifier {
  enum Failure: Error { case missingResource(String), unreadableImage }

  let labels: [String]
  private let interpreter: Interpreter

  /// For a float file on the GPU give `delegates: [MetalDelegate()]`.
  init(model: String, delegates: [Delegate]? = nil, bundle: Bundle = .main) throws {
    guard let path = bundle.path(forResource: model, ofType: "tflite") else {
      throw Failure.missingResource(model)
    }
    guard let url = bundle.url(forResource: "labels", withExtension: "txt") else {
      throw Failure.missingResource("labels.txt")
    }
    labels = try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map(String.init)
    interpreter = try Interpreter(modelPath: path, delegates: delegates)
    try interpreter.allocateTensors()
  }

  /// Probability of each class, in the order of `labels`.
  func classify(_ image: CGImage) throws -> [Float] {
    let input = try interpreter.input(at: 0)
    let sizes = input.shape.dimensions  // [1, height, width, channels]
    let pixels = try Self.pixels(of: image, height: sizes[1], width: sizes[2], channels: sizes[3])
    let data =
      input.dataType == .float32
      ? pixels.map { Float($0) / 255 }.withUnsafeBufferPointer { Data(buffer: $0) }
      : Data(pixels)
    try interpreter.copy(data, toInputAt: 0)
    try interpreter.invoke()

    let output = try interpreter.output(at: 0)
    guard let quantization = output.quantizationParameters, output.dataType == .uInt8 else {
      return output.data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }
    return output.data.map { quantization.scale * Float(Int($0) - quantization.zeroPoint) }
  }

  /// Pixels row by row, scaled to the size of the model.
  private static func pixels(of image: CGImage, height: Int, width: Int, channels: Int) throws -> [UInt8] {
    let isGray = channels == 1
    let bytesPerPixel = isGray ? 1 : 4
    var buffer = [UInt8](repeating: 0, count: height * width * bytesPerPixel)
    let drawn = buffer.withUnsafeMutableBytes { bytes -> Bool in
      guard
        let context = CGContext(
          data: bytes.baseAddress, width: width, height: height, bitsPerComponent: 8,
          bytesPerRow: width * bytesPerPixel,
          space: isGray ? CGColorSpaceCreateDeviceGray() : CGColorSpaceCreateDeviceRGB(),
          bitmapInfo: isGray
            ? CGImageAlphaInfo.none.rawValue : CGImageAlphaInfo.noneSkipLast.rawValue)
      else { return false }
      context.interpolationQuality = .low  // bilinear
      context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
      return true
    }
    guard drawn else { throw Failure.unreadableImage }
    if isGray { return buffer }
    return stride(from: 0, to: buffer.count, by: 4).flatMap { buffer[$0..<$0 + 3] }
  }
}
